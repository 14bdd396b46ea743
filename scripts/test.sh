#!/usr/bin/env bash
# Installs what is missing and checks everything: formatting, lints (native and WebAssembly), tests,
# the viewer in a browser, documentation. Needs the network once, for dependencies and the default
# model.
source "$(dirname "$0")/lib.sh"

need_tools
need_wasm
need_browser
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done

say "Formatting"
cargo fmt --all --check
say "The viewer"
scripts/build-web.sh
# One selection of packages and features throughout: another one would rebuild the dependencies.
export PATCHBOARD_VIEWER=dist
# What is drawn at random is the same every time.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
all=(--workspace --features browser-tests/browser)
say "Lints, native"
cargo clippy "${all[@]}" --all-targets -- -D warnings
say "Lints, WebAssembly"
cargo clippy --package web --target wasm32-unknown-unknown -- -D warnings
cargo clippy --package web --features parts --target wasm32-unknown-unknown -- -D warnings
say "Tests"
cargo test "${all[@]}"
say "Documentation"
RUSTDOCFLAGS="-D warnings" cargo doc "${all[@]}" --no-deps
say "All passed"
