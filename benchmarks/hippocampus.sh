#!/usr/bin/env bash
# Train a recipe on the hippocampus data for a time budget, score it on the validation list, and print the table.
#   benchmarks/hippocampus.sh DATASET RECIPE MINUTES DEVICE OUT
# On a GPU, the paper's test figure for this task (0.89) within ten minutes is the goal of:
#   benchmarks/hippocampus.sh ../shared/data/Task04_Hippocampus rog 10 cuda runs/rog-gpu
set -euo pipefail
dataset=$1 recipe=$2 minutes=$3 device=$4 out=$5
bin=${VOXWARD:-.venv/bin/voxward}

if [ "$device" = cuda ]; then
    .venv/bin/python -m pytest -m gpu
fi
"$bin" train "$dataset" --recipe "$recipe" --minutes "$minutes" --device "$device" --out "$out"
"$bin" evaluate "$out" --device "$device"
cat "$out/metrics.md"
