#!/usr/bin/env bash
# Runs the numerical tests with the arithmetic of older and newer processors: the kernels that torch and oneDNN choose
# add in another order on each, and a tolerance must follow from the type and the size of the numbers (see
# tests/rounding.py), not from what one machine gave.
# Usage: tests/isa.sh PYTHON [FOLDER ...]
set -u
cd "$(dirname "$0")/.."
python=$1
shift
folders=("$@")
if [ ${#folders[@]} -eq 0 ]; then
    folders=(tests/data tests/pipeline tests/systems tests/attacks tests/nets tests/losses tests/metrics tests/training
        tests/architecture_search tests/phantoms tests/runs tests/robustness)
fi

# Of torch's own kernels (ATEN_CPU_CAPABILITY) and of oneDNN's convolutions (ONEDNN_MAX_CPU_ISA).
settings=(
    "ATEN_CPU_CAPABILITY=default"
    "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
    "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=SSE41"
    ""
)

processor() {
    local name
    name=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1)
    echo "${name:-$("$python" -c 'import platform; print(platform.processor() or platform.machine())')}"
}

failed=0
results=()
for setting in "${settings[@]}"; do
    for threads in 1 2; do
        name="${setting:-the processor as it is}, OMP_NUM_THREADS=$threads"
        echo "== $name"
        # Each of the processes has that many threads. They yield where there are more of them than cores.
        parallel=(-n auto --maxprocesses 4 --dist loadfile)
        # shellcheck disable=SC2086 # a setting is none, one or two words
        if env $setting OMP_NUM_THREADS=$threads GOMP_SPINCOUNT=1000 "$python" -m pytest -m "not slow" "${parallel[@]}" "${folders[@]}"; then
            results+=("passed: $name")
        else
            results+=("FAILED: $name")
            failed=1
        fi
    done
done
echo "processor: $(processor)"
printf '%s\n' "${results[@]}"
exit $failed
