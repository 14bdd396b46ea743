#!/usr/bin/env bash
# Times the sweep of one pair by Patchboard, nnsight, TransformerLens and plain transformers on the default
# model, in one run on this machine, and checks that all of them get the same values. Needs Python 3.10 or
# newer, the network the first time and 8 GB of disk; not part of the test command.
#   scripts/compare-peers.sh [--binary PATH] [OPTION...]
# --binary is a patchboard to use instead of building one; the other options are those of
# tests/peers/compare.py, as --rounds, --cells, --methods and --threads.
source "$(dirname "$0")/lib.sh"

binary=
options=()
while [ $# -gt 0 ]; do
    case $1 in
    --binary)
        [ $# -gt 1 ] || fail "--binary without its value"
        binary=$2
        shift
        ;;
    *) options+=("$1") ;;
    esac
    shift
done
work=$(cache_folder)/peers
venv=$work/venv

say "The other libraries, in $venv"
python_environment "$venv" tests/peers/requirements.txt

if [ -z "$binary" ]; then
    say "Building"
    cargo build --release --package compute
    binary=${CARGO_TARGET_DIR:-target}/release/patchboard
fi

say "The model"
name=SmolLM2-135M-Instruct
if [ ! -e "$work/$name" ]; then
    "$binary" models --fetch >/dev/null
    "$venv/bin/python" tests/ndif/make_model.py "$(echo "$(cache_folder)"/models/SmolLM2*.gguf)" local/$name "$work/hf"
    ln -s "$(echo "$work"/hf/hub/models--local--$name/snapshots/*)" "$work/$name"
fi

say "The comparison"
HF_HUB_OFFLINE=1 "$venv/bin/python" tests/peers/compare.py --model "$work/$name" --binary "$binary" \
    --out "$work/peers.json" --figure "$work/peers.svg" "${options[@]}"
say "All values agree"
