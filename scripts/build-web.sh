#!/usr/bin/env bash
# Builds the viewer into dist/, or into the folder named. Doing it again is quick.
source "$(dirname "$0")/lib.sh"

dist=${1:-dist}
need_tools
need_wasm
# The texts of panics name files of the dependencies. Without the folder that holds them they are shorter, and the
# same wherever the viewer is built. Cargo adds these flags to those of .cargo/config.toml.
cargo fetch --locked --target wasm32-unknown-unknown
flags=()
for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=(--config "target.wasm32-unknown-unknown.rustflags=['--remap-path-prefix=${folder%/}=']")
done
# Where the viewer is cut into parts (web/bundle), what refers to what must be known.
cargo rustc --locked --package web --features parts --target wasm32-unknown-unknown --profile wasm-release \
    "${flags[@]}" -- -C link-arg=--emit-relocs
cargo run --locked --release --package bundle -- \
    "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/wasm-release/web.wasm" static/web "$dist"
wc -c "$dist"/web*
