#!/usr/bin/env bash
# Builds the viewer into dist/ (or the folder named). Installs what it needs below target/tools,
# once; does nothing that was done before.
set -euo pipefail
cd "$(dirname "$0")/.."

dist=${1:-dist}
target=${CARGO_TARGET_DIR:-target}
tools=$PWD/target/tools
bindgen_version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
binaryen_version=132

rustup target list --installed 2>/dev/null | grep -qx wasm32-unknown-unknown ||
    rustup target add wasm32-unknown-unknown

export PATH="$tools/bin:$tools/node_modules/.bin:$PATH"
if [[ "$(wasm-bindgen --version 2>/dev/null)" != "wasm-bindgen $bindgen_version" ]]; then
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --quiet --root "$tools" \
        --no-default-features --version "$bindgen_version" wasm-bindgen-cli
fi
# Debian's binaryen is too old: the page that it makes does not start.
[[ -x $tools/node_modules/.bin/wasm-opt ]] ||
    npm install --silent --no-audit --no-fund --prefix "$tools" "binaryen@$binaryen_version"

cargo build --locked --package web --target wasm32-unknown-unknown --profile wasm-release
wasm=$target/wasm32-unknown-unknown/wasm-release/web.wasm
mkdir -p "$dist"
if [[ ! -e $dist/patchboard_bg.wasm || $wasm -nt $dist/patchboard_bg.wasm ]]; then
    wasm-bindgen "$wasm" --target web --no-typescript --out-name patchboard --out-dir "$dist"
    wasm-opt -Oz "$dist/patchboard_bg.wasm" -o "$dist/patchboard_bg.wasm.tmp"
    mv "$dist/patchboard_bg.wasm.tmp" "$dist/patchboard_bg.wasm"
fi
cp static/web/{style.css,boot.js,start.js,icon.svg} "$dist"
start='    <script type="module" id="patchboard-start" src="start.js"><\/script>'
sed -e '/data-trunk rel="copy-file"/d' -e "s/^ *<link data-trunk rel=\"rust\".*/$start/" \
    -e 's/ data-trunk / /' static/web/index.html >"$dist/index.html"
wc -c "$dist/patchboard_bg.wasm" "$dist/patchboard.js"
