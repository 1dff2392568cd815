#!/usr/bin/env bash
# Harden a trained run by each method for the same time, attack all of them with the strong ensemble, print the tables.
#   benchmarks/hardening.sh DATASET RUN MINUTES DEVICE OUT [options of `voxward benchmark`]
# METHODS: which (default "free pgd trades"). FRONTIER=1: instead, pgd at eps 2, 4 and 8/255 by three inner objectives.
# On a GPU, all validation cases:
#   benchmarks/hardening.sh ../shared/data/Task04_Hippocampus runs/dynunet 10 cuda out --eps 1/255 2/255 4/255 8/255 16/255
set -euo pipefail
dataset=$1 run=$2 minutes=$3 device=$4 out=$5
shift 5
bin=${VOXWARD:-.venv/bin/voxward}
runs=("$run")

harden() { # NAME, then options
    local name=$1
    shift
    if [ ! -f "$out/$name/metrics.json" ]; then
        resume=$([ -f "$out/$name/recipe.yaml" ] && echo --resume || true)
        $bin harden "$run" --dataset "$dataset" --minutes "$minutes" --device "$device" --out "$out/$name" $resume "$@"
        $bin evaluate "$out/$name" --device "$device"
    fi
    runs+=("$out/$name")
}

if [ "${FRONTIER:-0}" = 1 ]; then
    for eps in 2 4 8; do
        for objective in dice ce balanced-ce; do
            harden "pgd-$objective-$eps" --method pgd --eps "$eps/255" --set "defence.objective=$objective"
        done
    done
else
    for method in ${METHODS:-free pgd trades}; do
        harden "$method" --method "$method" --eps 8/255
    done
fi
$bin benchmark "${runs[@]}" "$dataset" --attacks strong --surrogate "$run" --device "$device" --out "$out/benchmark" "$@" || true
cat "$out"/benchmark/*.md
