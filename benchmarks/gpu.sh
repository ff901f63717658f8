#!/usr/bin/env bash
# Everything that only a GPU can tell, in under ten minutes: build, tests, tables, sanitizer.
#
#   benchmarks/gpu.sh [FOLDER]      (default: benchmarks/results/gpu-DATE)
#
# Needs a CUDA build of torch and an nvcc of its major version (pip install 'benchbench[cuda]').
# Every step writes its log into FOLDER and the next one runs whatever happened to it; what a step
# has measured before its time is over is kept. The exit code is 1 when any step failed.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:-benchmarks/results/gpu-$(date +%Y-%m-%d)}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
python="${PYTHON:-$(command -v python3 || command -v python)}"
total="${GPU_SECONDS:-570}"
failed=0
export PYTHONUNBUFFERED=1 BENCHBENCH_STORE="$out/store"

left() { echo $((total - SECONDS)); }

step() {  # step NAME SECONDS COMMAND...: run with a limit, keep the log, say how it went
    local name="$1" limit="$2" begun=$SECONDS status
    shift 2
    if [ "$(left)" -lt 10 ]; then
        echo "$name: left out, the time is over" | tee -a "$out/summary.txt"
        failed=1
        return 9
    fi
    [ "$limit" -gt "$(left)" ] && limit="$(left)"
    timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    case "$status" in
        0) echo "$name: fine, $((SECONDS - begun)) s" ;;
        124 | 137) echo "$name: stopped after $limit s; what it has done is kept" ;;
        *) echo "$name: failed with status $status after $((SECONDS - begun)) s: $out/$name.log" ;;
    esac | tee -a "$out/summary.txt"
    [ "$status" -eq 0 ] || failed=1
    return 0
}

table() {  # table NAME SECONDS ARGUMENTS...: a run of benchbench, and its table even if cut short
    local name="$1" limit="$2" more
    shift 2
    more="$out/store/$name"
    step "$name" "$limit" "$python" -m benchbench run "$@" --store "$more" --timeout 60 -v || return
    for format in markdown json; do
        timeout 10 "$python" -m benchbench show last --store "$more" -f "$format" \
            -o "$out/$name.${format/markdown/md}" >/dev/null 2>&1
    done
}

: >"$out/summary.txt"
"$python" - <<'PY' | tee "$out/summary.txt"
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh: torch finds no CUDA device; run it where one is")
p = torch.cuda.get_device_properties(0)
print(torch.cuda.get_device_name(), "torch", torch.__version__, "L2", p.L2_cache_size >> 20, "MiB")
PY
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 2
{
    date -u
    timeout 10 nvidia-smi
    timeout 10 nvidia-smi -q -d CLOCK,POWER,TEMPERATURE,PERFORMANCE
    "$python" -m pip list 2>/dev/null |
        grep -i -E "^(torch|triton|quack|liger|flag|nvidia-cu|nvidia-ml|cuda|numpy)"
    git log -1 --format=%H
} >"$out/machine.txt" 2>&1

# Entry points and the two packages outside benchbench/ come with an installation.
if ! "$python" -c 'import benchbench_plugins, importlib.metadata as m; m.distribution("benchbench")' 2>/dev/null; then
    step install 60 env BENCHBENCH_BUILD=0 "$python" -m pip install -q --no-deps --no-build-isolation --no-index -e .
    if ! "$python" -c 'import benchbench_plugins' 2>/dev/null; then
        # Without pip: links, and the metadata that entry points are read from.
        place="$(mktemp -d)"
        ln -s "$PWD/benchbench" "$place/benchbench"
        ln -s "$PWD/plugins" "$place/benchbench_plugins"
        ln -s "$PWD/csrc" "$place/benchbench_csrc"
        mkdir "$place/benchbench-0.dist-info"
        printf 'Metadata-Version: 2.1\nName: benchbench\nVersion: 0\n' >"$place/benchbench-0.dist-info/METADATA"
        sed -n '/^\[project.entry-points.benchbench\]/,/^$/p' pyproject.toml |
            sed 's/project.entry-points.//; s/"//g' >"$place/benchbench-0.dist-info/entry_points.txt"
        export PYTHONPATH="$place${PYTHONPATH:+:$PYTHONPATH}"
    fi
fi

step build 200 env BENCHBENCH_BUILD=1 "$python" -m benchbench build --force
step harness 110 "$python" -m pytest -q -x --maxfail=20 -m gpu -p no:cacheprovider --durations=8 tests/test_gpu_harness.py
step kernels 110 "$python" -m pytest -q -m gpu -p no:cacheprovider --durations=8 tests/test_gpu.py

quick=(-n 1 --budget 0.1)
table hot 40 activations/gelu activations/packed_swiglu normalizations/layer_norm normalizations/batch_norm_add_relu \
    -p gpu -a dtype=bfloat16 -a direction=forward -c eager -c fused "${quick[@]}"
table cold 40 activations/gelu normalizations/layer_norm \
    -p gpu -a dtype=bfloat16 -a direction=forward -c eager -c fused \
    --cache cold --timer cuda-graph "${quick[@]}"
table models 40 models/resnet50 models/transformer-block -p gpu -c eager -c swapped -c channels-last-swapped "${quick[@]}"
table optimizers 25 optimizers/adam-step -p gpu -c foreach -c fused "${quick[@]}"
table samplers 30 samplers/bootstrap-mean samplers/weighted-draw samplers/oversample -p gpu -c torch -c fused "${quick[@]}"

# First what torch.compile does by default, for most cases; then, as time is left, what it finds by
# trying, which takes half a minute a case.
step table 170 "$python" benchmarks/gpu_kernels.py --write "$out" --quick --minutes 2.5
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        step "sanitizer-$tool" 40 compute-sanitizer --tool "$tool" --error-exitcode 3 \
            "$python" -m pytest -q -m gpu -p no:cacheprovider tests/test_gpu.py -k "repeatable or batch_norm and 8-256"
    done
else
    echo "sanitizer: no compute-sanitizer on PATH; it comes with the CUDA toolkit" | tee "$out/sanitizer.log"
fi
step autotune 120 "$python" benchmarks/gpu_kernels.py --write "$out/autotune" --minutes 1.7
for name in hot cold models optimizers samplers kernels; do
    [ -s "$out/$name.md" ] && cat "$out/$name.md"
done
cat "$out/summary.txt"
exit "$failed"
