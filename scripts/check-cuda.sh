#!/usr/bin/env bash
# Builds the engine with `--features cuda` on a machine without a GPU, a driver or CUDA: lays NVIDIA's
# toolkit, which the Python package index has as wheels, out below target/cuda. It takes about 15
# minutes on two cores and 4 GB of disk, and is not part of test.sh. What it builds does not
# run here: it shows that the code compiles and links.
#   usage: scripts/check-cuda.sh [check|build]     (default: build)
source "$(dirname "$0")/lib.sh"

action=${1:-build}
cuda_toolkit
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-2}

say "The kernels"
kernels=compute/src/model/net/cuda
for type in 0 1 2; do
    for kernel in attention rows; do
        # An odd width of heads, too, whose rows cannot be read several numbers at once.
        for width in 128 37; do
            cat $kernels/numbers.cu $kernels/$kernel.cu | nvcc -x cu -arch="sm_$CUDA_COMPUTE_CAP" -cubin \
                -DTYPE=$type -DD_HEAD=$width -DN_KV=8 -DN_GROUPS=7 -DCENTRED=1 -DACTIVATION=$type -o /dev/null -
        done
    done
done

say "cargo $action --features cuda"
export CARGO_TARGET_DIR=$PWD/target/cuda/build
nice cargo "$action" --package compute --features cuda --all-targets
say "Compiled with CUDA; nothing was run"
