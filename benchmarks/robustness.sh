#!/usr/bin/env bash
# Attack trained runs on the hippocampus data's validation cases, and print the tables.
#   benchmarks/robustness.sh DATASET RUN DEVICE OUT [options of `voxward attack`]
# On a GPU, with runs of Dice 0.88 or more (benchmarks/hippocampus.sh), once with 20 and once with 100 iterations:
#   benchmarks/robustness.sh ../shared/data/Task04_Hippocampus runs/rog cuda out/20 --set budget.queries=1000
#   benchmarks/robustness.sh ../shared/data/Task04_Hippocampus runs/rog cuda out/100 --set budget.queries=1000 --set budget.steps=100
set -euo pipefail
dataset=$1 run=$2 device=$3 out=$4
shift 4
bin=${VOXWARD:-.venv/bin/voxward}

"$bin" attack "$run" --dataset "$dataset" --attacks autoattack strong apgd-dice --device "$device" --out "$out" "$@"
cat "$out/robustness.md"
