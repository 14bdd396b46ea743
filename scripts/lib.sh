# What the other scripts share. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The little that must be there already.
need_tools() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup (https://rustup.rs) and open a new shell"
    command -v cc >/dev/null || fail "a C compiler is missing: install gcc or clang (Debian: apt-get install gcc libc6-dev)"
    command -v python3 >/dev/null || fail "python3 is missing: install Python 3 with pip (Debian: apt-get install python3 python3-pip)"
    # Debian's python3 comes without pip, which the default model is fetched with.
    if ! python3 -m pip --version >/dev/null 2>&1; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            say "Installing pip"
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip
        else
            fail "pip is missing: install it (Debian: sudo apt-get install python3-pip)"
        fi
    fi
}

# What compiles the viewer.
need_wasm() {
    rustup target list --installed | grep -qx wasm32-unknown-unknown ||
        rustup target add wasm32-unknown-unknown
}

# The browser in which the viewer is tested.
need_browser() {
    if ! command -v chromedriver >/dev/null || ! command -v chromium >/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            say "Installing a browser"
            apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver
        else
            fail "chromium and chromedriver are missing: install them (Debian: sudo apt-get install chromium chromium-driver)"
        fi
    fi
}

# Where the program keeps what it fetches.
cache_folder() {
    case $(uname) in
    Darwin) echo "$HOME/Library/Caches/patchboard" ;;
    *) echo "${XDG_CACHE_HOME:-$HOME/.cache}/patchboard" ;;
    esac
}

# python_environment FOLDER REQUIREMENTS: a virtual environment, by PYTHON if it is set.
python_environment() {
    local python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "found $("$python" --version 2>&1), expected Python 3.10 or newer: name one by PYTHON"
    "$python" -m venv "$1"
    "$1/bin/pip" install --quiet --requirement "$2"
}

# NVIDIA's compiler and libraries, which the Python package index has as wheels, below target/cuda. In
# place of a driver that is not there stands a library that answers that there is no device.
cuda_toolkit() {
    local toolkit=$PWD/target/cuda/toolkit cudarc=0.19
    say "The toolkit"
    cargo fetch --quiet
    export CUDA_HOME=$toolkit/nvidia/cu13 PATH=$toolkit/nvidia/cu13/bin:$PATH
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
}
