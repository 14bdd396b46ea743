#!/usr/bin/env bash
# Builds the engine with `--features cuda` on a machine without a GPU, a driver or CUDA: lays NVIDIA's
# toolkit, which the Python package index has as wheels, out below target/cuda. It takes about 15
# minutes on two cores and 4 GB of disk, and is not part of test.sh. What it builds does not
# run here: it shows that the code compiles and links.
#   usage: scripts/check-cuda.sh [check|build]     (default: build)
source "$(dirname "$0")/lib.sh"

action=${1:-build}
toolkit=$PWD/target/cuda/toolkit
cudarc=0.19

say "The toolkit"
cargo fetch --quiet
export CUDA_HOME=$toolkit/nvidia/cu13
if [ ! -e "$toolkit/.whole" ]; then
    # cudarc $cudarc knows CUDA up to 13.4, and the wheels of CUDA 12 have no nvcc.
    python3 -m pip install --quiet --no-deps --upgrade --disable-pip-version-check \
        --root-user-action=ignore --target "$toolkit" \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88 \
        nvidia-curand==10.4.0.35 nvidia-cublas==13.1.0.3
    chmod +x "$CUDA_HOME"/bin/* "$CUDA_HOME"/nvvm/bin/*
    ln -sfn lib "$CUDA_HOME/lib64"
    # The wheels hold versioned names alone: add those that the linker asks for.
    for library in cudart:13 cublas:13 cublasLt:13 curand:10 nvrtc:13; do
        ln -sf "lib${library%%:*}.so.${library##*:}" "$CUDA_HOME/lib/lib${library%%:*}.so"
    done
    # In place of the driver a library with every function that cudarc binds, each of which answers
    # CUDA_ERROR_NO_DEVICE.
    stubs=$CUDA_HOME/lib/stubs
    mkdir -p "$stubs"
    grep -ohE 'fn cu[A-Z][A-Za-z0-9_]+' \
        "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-$cudarc*/src/driver/sys/*.rs |
        sort -u | sed 's/^fn \(.*\)/int \1(void) { return 100; }/' >"$stubs/stub.c"
    gcc -shared -fPIC "$stubs/stub.c" -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so"
    ln -sf libcuda.so "$stubs/libcuda.so.1"
    touch "$toolkit/.whole"
fi
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-2}
export PATH=$CUDA_HOME/bin:$PATH

say "cargo $action --features cuda"
export CARGO_TARGET_DIR=$PWD/target/cuda/build
nice cargo "$action" --package compute --features cuda --all-targets
say "Compiled with CUDA; nothing was run"
