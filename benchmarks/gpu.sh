#!/usr/bin/env bash
# What only a GPU can measure, in nine minutes at most; see benchmarks/gpu.py.
#   benchmarks/gpu.sh DATASET [OUT]        writes OUT/gpu.md (default: results/speed); DATASET: Task04_Hippocampus
# Without a GPU, the rehearsal:  benchmarks/gpu.sh DATASET OUT --device cpu --small
# PYTHON: an interpreter with a CUDA build of torch and this project's requirements (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=$1 out=${2:-results/speed}
export PYTHONPATH="$PWD/src:$PWD"
exec "${PYTHON:-python3}" -m benchmarks.gpu "$dataset" --out "$out" "${@:3}"
