#!/usr/bin/env bash
# Builds the viewer with Trunk as well as with scripts/build-web.sh and compares the two in a browser,
# then lets `trunk serve` show it before a running server. Trunk and wasm-bindgen's tool are installed
# below target/trunk, which takes ten minutes once, so this is not part of test.sh.
# PATCHBOARD names a built `patchboard`; otherwise one is built.
source "$(dirname "$0")/lib.sh"

need_tools
need_wasm
need_browser
command -v curl >/dev/null || fail "curl is missing: install it (Debian: apt-get install curl)"
tools=$PWD/target/trunk/tools
bindgen=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)

say "Trunk and wasm-bindgen $bindgen"
# As quick as these tools are needed, and not quicker.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1
install() {
    CARGO_TARGET_DIR=$PWD/target/trunk/build cargo install --root "$tools" "$@"
}
install trunk --version 0.21.14 --locked --no-default-features --features rustls
install wasm-bindgen-cli --version "$bindgen" --no-default-features
unset CARGO_PROFILE_RELEASE_LTO CARGO_PROFILE_RELEASE_CODEGEN_UNITS CARGO_PROFILE_RELEASE_OPT_LEVEL
export PATH=$tools/bin:$PATH

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# A port that nothing listens at.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
# Waits until an address answers.
await() {
    for _ in $(seq 600); do
        if curl --silent --fail --output "$work/answer" "$1"; then return; fi
        sleep 0.2
    done
    fail "$1 does not answer"
}
# What a browser makes of a page: its document in $work/NAME.html, a picture in $work/NAME.png.
shown() {
    local name=$1 address=$2
    local browser=(chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-sync
        --disable-background-networking --disable-component-update --user-data-dir="$work/profile"
        --window-size=1280,1400 --timeout=8000)
    "${browser[@]}" --dump-dom "$address" >"$work/$name.html" 2>"$work/browser.log"
    "${browser[@]}" --screenshot="$work/$name.png" "$address" 2>>"$work/browser.log"
}
# Holds that a page has something in it.
holds() {
    grep -q -- "$2" "$work/$1.html" || fail "the page of $1 lacks $2: $(head -c 2000 "$work/$1.html")"
}

say "Both builds"
scripts/build-web.sh "$work/ours"
trunk build --release --offline --dist "$work/trunk"
# Trunk has all of the viewer in one file.
diff <(ls "$work/ours" | grep -vx web_pages.wasm) <(ls "$work/trunk") || fail "the builds hold other files"
example=$(ls static/examples/results/*.json | head -n 1)
for build in ours trunk; do
    cp "$example" "$work/$build/example.json"
    port=$(free_port)
    python3 -m http.server --bind 127.0.0.1 --directory "$work/$build" "$port" >"$work/files.log" 2>&1 &
    pids+=($!)
    await "http://127.0.0.1:$port/"
    shown "$build" "http://127.0.0.1:$port/#/e/f:example.json"
    holds "$build" 'data-state="running"'
    holds "$build" "<canvas"
done
cmp "$work/ours.png" "$work/trunk.png" || fail "the builds show an example differently"
wc -c "$work"/{ours,trunk}/*.wasm

say "trunk serve before a server"
if [ -z "${PATCHBOARD:-}" ]; then
    cargo build --locked --release --workspace --exclude web
    PATCHBOARD=target/release/patchboard
fi
port=$(free_port)
"$PATCHBOARD" serve --port "$port" --data "$work/data" --model tests/oracle/models/tiny-llama3 \
    --allow-host 127.0.0.1 >"$work/server.log" 2>&1 &
pids+=($!)
await "http://127.0.0.1:$port/healthz"
# The same settings with this port, beside the folders that they name.
config=Trunk.check.toml
sed "s/127.0.0.1:7860/127.0.0.1:$port/" Trunk.toml >"$config"
trap 'rm -f "$config"; finish' EXIT
page=$(free_port)
trunk --config "$config" serve --release --offline --dist "$work/served" --port "$page" \
    --address 127.0.0.1 >"$work/trunk.log" 2>&1 &
pids+=($!)
await "http://127.0.0.1:$page/"
# As the page would, which is not the server's own.
curl --silent --fail-with-body --output "$work/job.json" "http://127.0.0.1:$page/api/jobs" \
    --header "Origin: http://127.0.0.1:$page" --header "Sec-Fetch-Site: same-origin" \
    --header "Content-Type: application/json" --data '{ "pairs": [
        { "entity": "the king", "source": "The king orders it.", "base": "The king watches it." }] }' ||
    fail "the server refuses what comes through Trunk: $(cat "$work/job.json")"
id=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["pairs"][0]["experiment"])' "$work/job.json")
await "http://127.0.0.1:$page/data/$id.json"
shown served "http://127.0.0.1:$page/#/e/$id"
holds served "Compute again"
holds served "<canvas"
say "Trunk builds the same viewer, and serves it before a server"
