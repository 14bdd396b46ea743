#!/usr/bin/env bash
# Fills the disk under a working server, makes room again, and then takes the disk away from
# writing: results stay whole, and what is there is shown. Needs root, for a small file system of
# its own, and a built `patchboard`.
source "$(dirname "$0")/lib.sh"

program=${PATCHBOARD:-${CARGO_TARGET_DIR:-target}/debug/patchboard}
[[ $(id -u) = 0 ]] || fail "this needs root, to mount a small file system"
[[ -x $program ]] || fail "$program is missing: build it with cargo build --workspace"
work=$(mktemp -d)
disk=$work/disk
mkdir "$disk"
mount -t tmpfs -o size=3m tmpfs "$disk"
server=
cleanup() {
    [[ -z $server ]] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; }
    umount "$disk"
    rm -rf "$work"
}
trap cleanup EXIT

start() {
    # What the last one said must not be taken for this one's.
    : >"$work/said"
    "$program" serve --data "$disk" --model tests/oracle/models/tiny-llama3 --port 0 \
        >"$work/said" 2>>"$work/log" &
    server=$!
    until grep -q http "$work/said"; do kill -0 $server; sleep 0.1; done
    url=$(grep -o 'http://[^ ]*' "$work/said")
}
stop() { kill "$server"; wait "$server"; server=; }
get() { curl --silent --max-time 10 "$url$1"; }
post() { curl --silent --max-time 10 --header 'Content-Type: application/json' --data @"$2" "$url$1"; }
status() { curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' "$@"; }
total() { get api/experiments | python3 -c 'import json, sys; print(json.load(sys.stdin)["total"])'; }
expect() { [[ $2 = "$3" ]] || fail "$1: expected $3, found $2"; echo "ok: $1"; }
python3 - "$work/jobs.json" <<'P'
import json, sys
pair = lambda i: {"entity": f"King {i}", "source": f"The king orders guard {i} to leave.",
                  "base": f"The king watches guard {i} at rest."}
json.dump({"pairs": [pair(i) for i in range(120)]}, open(sys.argv[1], "w"))
P

say "A disk that becomes full while sweeps run"
start
head -c 1500K /dev/zero >"$disk/ballast"
post api/jobs "$work/jobs.json" >/dev/null
for _ in $(seq 100); do [[ $(status "${url}healthz") = 503 ]] && break; sleep 0.1; done
expect "the queue says that it stands still" "$(status "${url}healthz")" 503
get healthz; echo
before=$(total)
expect "results are still shown" "$(status "${url}api/experiments")" 200
expect "an import is refused" "$(get data/index.json >"$work/list"; id=$(get api/experiments |
    grep -o '"id":"[^"]*' | head -1 | cut -c7-); get "api/experiments/$id" >"$work/document";
    python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); d["id"]="0"*20; d["source_prompt"]="x"*500000; json.dump(d,open(sys.argv[1],"w"))' "$work/document";
    curl --silent --output /dev/null --write-out '%{http_code}' --data-binary @"$work/document" "${url}api/import")" 507

say "Killed while it is full, and started again"
kill -9 "$server"; wait "$server" 2>/dev/null || true; server=
start
expect "nothing is lost" "$(total)" "$before"
stop

say "Room again"
rm "$disk/ballast"
mount -o remount,size=32m "$disk"
start
for _ in $(seq 300); do [[ $(total) = 120 ]] && break; sleep 0.1; done
expect "the queue comes to its end" "$(total)" 120
stop

say "A write-protected disk"
mount -o remount,ro "$disk"
start
expect "results are shown" "$(total)" 120
expect "nothing new is accepted" "$(status --header 'Content-Type: application/json' --data @"$work/jobs.json" "${url}api/jobs")" 403
get api/server | grep -q '"writable":false' || fail "the server does not say that it cannot write"
stop
mount -o remount,rw "$disk"
say "All passed"
