#!/usr/bin/env bash
# Installs what is missing and checks everything: formatting, lints (native and WebAssembly), tests,
# documentation. Needs the network once, for dependencies and the default model.
source "$(dirname "$0")/lib.sh"

need_tools
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done
need_wasm

# One selection of packages throughout: another one would turn features on and off and rebuild
# the dependencies.
say "Formatting"
cargo fmt --all --check
say "Lints, native"
cargo clippy --workspace --all-targets -- -D warnings
say "Lints, WebAssembly"
cargo clippy --package web --target wasm32-unknown-unknown -- -D warnings
say "Tests"
cargo test --workspace
say "Documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
say "All passed"
