#!/usr/bin/env bash
# Builds the viewer into dist/, or into the folder named. Doing it again is quick.
source "$(dirname "$0")/lib.sh"

dist=${1:-dist}
need_tools
need_wasm
cargo build --locked --package web --target wasm32-unknown-unknown --profile wasm-release
cargo run --locked --release --package bundle -- \
    "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/wasm-release/web.wasm" static/web "$dist"
wc -c "$dist"/web*
