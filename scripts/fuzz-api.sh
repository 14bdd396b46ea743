#!/usr/bin/env bash
# Sends the API whatever its own description allows and much that it does not, and fails on any
# server error. Takes schemathesis from the Python package index, into the folder named or a
# temporary one; needs a built `patchboard`.
#
#   scripts/fuzz-api.sh [VENV] [EXAMPLES]
source "$(dirname "$0")/lib.sh"

venv=${1:-${TMPDIR:-/tmp}/patchboard-fuzz-venv}
examples=${2:-100}
program=${PATCHBOARD:-${CARGO_TARGET_DIR:-target}/debug/patchboard}
[[ -x $program ]] || fail "$program is missing: build it with cargo build --workspace"
[[ -x $venv/bin/schemathesis ]] || {
    say "Installing schemathesis"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet schemathesis
}

data=$(mktemp -d)
"$program" serve --data "$data" --model tests/oracle/models/tiny-llama3 --port 0 >"$data/said" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$data"' EXIT
until grep -q http "$data/said"; do kill -0 $server; sleep 0.1; done
url=$(grep -o 'http://[^ ]*' "$data/said")

# Something to find.
curl --silent --fail --output /dev/null --header 'Content-Type: application/json' \
    --data '{"pairs": [{"source": "A rules.", "base": "A waits.", "entity": "A"}]}' "${url}api/jobs"

say "Fuzzing $url"
# Event streams do not end, so they are left to the tests.
"$venv/bin/schemathesis" run "${url}api/openapi.json" --exclude-path /api/events \
    --checks not_a_server_error --max-examples "$examples" --seed 7 --generation-deterministic \
    --continue-on-failure
curl --silent --fail "${url}healthz"
