#!/usr/bin/env bash
# Checks a GPU in one command and writes what was found into one JSON file: whether it computes what the
# CPU does, for every family and type, how fast it sweeps a model of the 8B's shape, and the default
# model beside the CPU. Needs NVIDIA's driver; the compiler is fetched from the Python package index.
#   usage: scripts/check-gpu.sh [--device cuda:0] [--shape 8b] [--out report.json] [--binary PATH]
# --binary is a patchboard built with `--features cuda`; without it one is built (some minutes on 16
# cores). With `--device cpu --shape tiny` the operations that GPUs are given are checked on the CPU.
source "$(dirname "$0")/lib.sh"

device=cuda:0 shape=8b out=gpu-report.json binary=
while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 ;;
    --shape) shape=$2 ;;
    --out) out=$2 ;;
    --binary) binary=$2 ;;
    *) fail "unknown option $1" ;;
    esac
    shift 2 || fail "an option without its value"
done

name=CPU
if [ "$device" != cpu ]; then
    command -v nvidia-smi >/dev/null || fail "nvidia-smi is missing: install NVIDIA's driver"
    name=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader --id="${device#cuda:}")
    say "$name"
fi
if [ -z "$binary" ]; then
    features=()
    if [ "$device" != cpu ]; then
        command -v nvcc >/dev/null || cuda_toolkit
        features=(--features cuda)
        CUDA_COMPUTE_CAP=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader --id="${device#cuda:}" | tr -d .)
        export CUDA_COMPUTE_CAP CARGO_TARGET_DIR=$PWD/target/cuda/build
    fi
    say "Building"
    cargo build --release --package compute "${features[@]}"
    binary=${CARGO_TARGET_DIR:-target}/release/patchboard
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say "Every family, and a sweep at the shape $shape"
"$binary" check --device "$device" --shape "$shape" --json >"$scratch/check"

say "The default model beside the CPU"
# It may not be there, and need not be fetched for this.
for on in cpu "$device"; do
    "$binary" bench --offline --device "$on" --rounds 2 --naive-cells 0 --json >"$scratch/bench" ||
        echo null >"$scratch/bench"
    mv "$scratch/bench" "$scratch/bench-$on"
done

launches=null
if command -v nsys >/dev/null && [ "$device" != cpu ]; then
    say "Launches"
    nsys profile --force-overwrite true --output "$scratch/profile" \
        "$binary" check --device "$device" --shape "$shape" --rounds 1 --json >/dev/null
    launches=$(nsys stats --report cuda_gpu_kern_sum --format csv "$scratch/profile.nsys-rep" |
        awk -F, '$3 ~ /^[0-9]+$/ { n += $3 } END { print n + 0 }')
fi

python3 - "$scratch" "$device" "$name" "$launches" >"$out" <<'PYTHON'
import json
import sys
from pathlib import Path

scratch, device, name, launches = sys.argv[1:]
read = lambda file: json.loads((Path(scratch) / file).read_text())
report = {
    "card": name,
    "check": read("check"),
    "default_model": {on: read(f"bench-{on}") for on in ("cpu", device)},
    "kernel_launches": json.loads(launches),
}
print(json.dumps(report, indent=1))
PYTHON
say "All families are within their bounds: $out"
