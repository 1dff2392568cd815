#!/usr/bin/env bash
# What only a GPU can measure: the GPU tests, the depthwise kernels and the lattice against PyTorch's own, and the memory
# of an architecture search.
#   benchmarks/gpu.sh [OUT]        writes OUT/cuda.md and OUT/cuda.json (default: results/speed)
# PYTHON: an interpreter with a CUDA build of torch and this project's requirements (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/src:$PWD"

"$python" -m pytest -m gpu -p no:cacheprovider tests
"$python" -m benchmarks.speed --only depthwise lattice dynunet --rounds 7 --out "${1:-results/speed}"
"$python" -m benchmarks.search_memory --device cuda
