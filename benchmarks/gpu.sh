#!/usr/bin/env bash
# Everything that only a GPU can tell, in under ten minutes: build, tests, sanitizer, table.
#
#   benchmarks/gpu.sh [FOLDER]      (default: benchmarks/results/gpu-DATE)
#
# Needs a CUDA build of torch and an nvcc of its major version (pip install 'benchbench[cuda]').
# Every step writes its log into FOLDER and the next one runs whatever happened to it.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:-benchmarks/results/gpu-$(date +%Y-%m-%d)}"
mkdir -p "$out"
failed=0

step() {  # step NAME SECONDS COMMAND...: run with a limit, keep the log, say how it went
    local name="$1" limit="$2" begun=$SECONDS
    shift 2
    if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then
        echo "$name: fine, $((SECONDS - begun)) s"
    else
        echo "$name: failed with status $? after $((SECONDS - begun)) s; see $out/$name.log"
        failed=1
    fi
}

python - <<'PY' || exit 2
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh: torch finds no CUDA device; run it where one is")
print(torch.cuda.get_device_name(), torch.__version__)
PY
(nvidia-smi; pip list 2>/dev/null | grep -i -E "^(torch|triton|quack|liger|flag|nvidia-cu|cuda)") >"$out/machine.txt" 2>&1

step build 180 env BENCHBENCH_BUILD=1 python -m benchbench build --force
step tests 150 python -m pytest -q -m gpu tests/test_gpu.py
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        step "sanitizer-$tool" 40 compute-sanitizer --tool "$tool" --error-exitcode 3 \
            python -m pytest -q -m gpu tests/test_gpu.py -k "repeatable or batch_norm and 8-256"
    done
else
    echo "sanitizer: no compute-sanitizer on PATH; it comes with the CUDA toolkit" | tee "$out/sanitizer.log"
fi
step table 270 python benchmarks/gpu_kernels.py --write "$out" --minutes 4
cat "$out/kernels.md" 2>/dev/null
exit "$failed"
