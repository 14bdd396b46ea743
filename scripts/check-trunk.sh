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
# Waits until a browser's page has texts in it: shown NAME ADDRESS TEXT... A picture of it goes to
# $work/NAME.png. By WebDriver, since a browser on the command line waits for the end of whatever a page
# loads, and a server's events have none.
shown() {
    python3 - "$work" "$@" <<'PYTHON' || fail "the page of $1 is not as it should be"
import base64, json, re, subprocess, sys, time, urllib.request
work, name, address, *texts = sys.argv[1:]
driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
try:
    started = (re.search(r"successfully on port (\d+)", line) for line in driver.stdout)
    root = f"http://127.0.0.1:{next(found for found in started if found)[1]}/session"

    def ask(path, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(root + path, data, method=method)
        return json.load(urllib.request.urlopen(request))["value"]

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--window-size=1280,1400"]
    wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags}}
    session = "/" + ask("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
    ask(session + "/url", {"url": address})
    end = time.monotonic() + 60
    while lacks := [text for text in texts if text not in ask(session + "/source")]:
        if time.monotonic() > end:
            sys.exit(f"{address} lacks {lacks}: {ask(session + '/source')[:2000]}")
        time.sleep(0.2)
    with open(f"{work}/{name}.png", "wb") as file:
        file.write(base64.b64decode(ask(session + "/screenshot")))
    ask(session, method="DELETE")
finally:
    driver.terminate()
PYTHON
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
    shown "$build" "http://127.0.0.1:$port/#/e/f:example.json" 'data-state="running"' "<canvas"
done
cmp "$work/ours.png" "$work/trunk.png" || fail "the builds show an example differently"
wc -c "$work"/{ours,trunk}/*.wasm

say "trunk serve before a server"
if [ -z "${PATCHBOARD:-}" ]; then
    cargo build --locked --release --workspace --exclude web
    PATCHBOARD=${CARGO_TARGET_DIR:-target}/release/patchboard
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
shown served "http://127.0.0.1:$page/#/e/$id" "Compute again" "<canvas"
say "Trunk builds the same viewer, and serves it before a server"
