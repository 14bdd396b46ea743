#!/usr/bin/env bash
# Runs sweeps on a real NDIF of one small model on the CPU, on loopback, and everything that can go wrong
# with one: keys, models that are not there, a time limit, a server that is killed. Every cell must be
# what this machine computes. Needs root, Debian's packages, Python 3.12 or 3.13 as PYTHON, and 6 GB; not
# part of the test command.
#   scripts/check-ndif.sh [FOLDER]      default: ~/.cache/patchboard/ndif
# PATCHBOARD names another program than the release build; PARTS leaves out some of families, sweeps,
# served and faults.
source "$(dirname "$0")/lib.sh"

parts=${PARTS:-families sweeps served faults}
work=${1:-$HOME/.cache/patchboard/ndif}
mkdir -p "$work"
work=$(cd "$work" && pwd)
venv=$work/venv
repo=local/smol
patchboard=${PATCHBOARD:-$PWD/target/release/patchboard}

if [ "${INSIDE:-}" != yes ]; then
    say "NDIF, in $work"
    for tool in redis-server psql; do
        command -v $tool >/dev/null || missing=1
    done
    [ -z "${missing:-}" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server postgresql
    if [ ! -x "$venv/bin/ndif" ] || ! "$venv/bin/python" -c 'import asyncpg, gguf, moto' 2>/dev/null; then
        "${PYTHON:-python3}" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' ||
            fail "NDIF needs Python 3.12 or 3.13: name one by PYTHON"
        # One that setup-ndif.sh has made may be of another Python.
        "${PYTHON:-python3}" -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --requirement python/ndif/requirements.txt --requirement tests/ndif/requirements.txt
    fi
    say "The model"
    [ -n "${PATCHBOARD:-}" ] || cargo build --release --package compute
    "$patchboard" models --fetch >/dev/null
    gguf=$(echo "$(cache_folder)"/models/SmolLM2*.gguf)
    "$venv/bin/python" tests/ndif/make_model.py "$gguf" $repo "$work/hf"
    if [[ $parts == *families* ]]; then
        say "The helper alone, on small models of every family"
        "$venv/bin/python" python/ndif/test_helper.py
    fi
    # Nothing of what follows can be reached from outside, and nothing of it stays.
    INSIDE=yes exec unshare --net --pid --fork --kill-child --mount-proc "$0" "$work"
fi

ip link set lo up
source tests/ndif/server.sh
export HF_HOME=$work/hf HF_HUB_OFFLINE=1 PATCHBOARD_NDIF_PYTHON=$venv/bin/python
folder=$(echo "$work"/hf/hub/models--local--smol/snapshots/*)
out=$(mktemp -d "$work/out-XXXX")
printf '%s\t%s\t%s\n' name power no_power \
    king 'The king orders the guards to leave.' 'The king watches the guards at rest.' >"$out/one.tsv"
cp "$out/one.tsv" "$out/two.tsv"
printf '%s\t%s\t%s\n' Maria 'Maria commands the crew.' 'Maria greets the crew and then walks home.' >>"$out/two.tsv"
here() { "$patchboard" sweep "$@" --format json --model "$folder"; }
there() { "$patchboard" sweep "$@" --format json --model $repo --on ndif --ndif-host $host; }
compare() { "$venv/bin/python" tests/ndif/compare.py "$@"; }
# A sweep that must fail, and what it must say.
refused() { # TEXT COMMAND...
    local text=$1
    shift
    if "$@" >"$out/refused.log" 2>&1; then fail "expected a failure: $text"; fi
    grep -q -- "$text" "$out/refused.log" || { cat "$out/refused.log"; fail "expected: $text"; }
    printf 'told: '; grep -- "$text" "$out/refused.log" | tail -1
    cat "$out/refused.log" >>"$out/all.log"
}
# Everything that is printed is searched for the keys in the end.
logged() { "$@" 2>&1 | tee -a "$out/all.log"; }

say "A server, with accounts"
begin=$(date +%s)
start_server
say "It took $(($(date +%s) - begin)) s to start"
export NDIF_API_KEY=$trusted

settings=(--direction both --align right)
sweeps() {
    say "One grid, 30 layers, here and there"
    here "$out/one.tsv" --quiet --out "$out/here-one"
    begin=$(date +%s)
    logged there "$out/one.tsv" --out "$out/there-one"
    echo "with the start of Python, $(($(date +%s) - begin)) s"
    compare "$out/here-one" "$out/there-one"
    "$venv/bin/python" tests/ndif/notebook.py $host $repo "$folder" "$(echo "$out"/here-one/king-*.json)" 24

    say "Two pairs of unequal lengths: four sites, both alignments, both directions, named positions"
    both_aligned() { # NAME OPTION...
        local name=$1
        shift
        here "$out/two.tsv" "$@" --quiet --out "$out/here-$name"
        logged there "$out/two.tsv" "$@" --out "$out/there-$name" | grep '^ndif  \|swept'
        compare "$out/here-$name" "$out/there-$name"
    }
    both_aligned pad --site resid_pre,attn_out,mlp_out,resid_post --align pad
    both_aligned right "${settings[@]}"
    both_aligned spans --positions entity,sentence,all
    say "A key that is not trusted, whose requests run in a sandbox"
    NDIF_API_KEY=$plain logged there "$out/one.tsv" --out "$out/there-plain"
    compare "$out/here-one" "$out/there-plain"
}

# What this machine computes of two pairs, both directions.
expected() { [ -e "$out/here-right" ] || here "$out/two.tsv" "${settings[@]}" --quiet --out "$out/here-right"; }

board=http://127.0.0.1:28100
serve() {
    "$patchboard" serve --ndif-model $repo --ndif-host $host --port 28100 --data "$out/data" >>"$out/served.log" 2>&1 &
    pid_board=$!
    wait_for 120 curl -sf $board/healthz
}
# Whether some columns of the running sweep are there.
columns() { (curl -sN --max-time 2 $board/api/events || true) | grep '"columns":\[{'; }
finished() { curl -sf "$board/api/jobs" | grep '"state":"done"'; }
served() {
    expected
    say "A server that offers the model: columns come while waves arrive, and it is killed then"
    serve
    logged curl -sf $board/api/models
    curl -sf --data-binary @"$out/two.tsv" "$board/api/jobs/table?format=tsv&direction=both&align=right" >"$out/job.json"
    wait_for 300 columns
    kill -9 $pid_board
    # Its data folder is free once it is gone.
    wait $pid_board || true
    serve
    wait_for 600 finished
    mkdir "$out/served"
    for id in $(curl -sf $board/api/experiments | grep -o '"id":"[0-9a-f]*"' | cut -d'"' -f4); do
        curl -sf $board/api/experiments/$id >"$out/served/$id.json"
    done
    grep -oh '"controls":{[^}]*}' "$out/served"/*.json
    compare "$out/here-right" "$out/served"
    kill $pid_board
}

faults() {
    expected
    say "Keys and models"
    NDIF_API_KEY=$unknown refused 'does not accept the key' there "$out/one.tsv" --out "$out/refused"
    NDIF_API_KEY=no-key-at-all refused 'does not accept the key' there "$out/one.tsv" --out "$out/refused"
    NDIF_API_KEY='' refused 'does not accept the key' there "$out/one.tsv" --out "$out/refused"
    # A model that is known here and not there.
    mkdir -p "$out/hf/hub"
    cp -r "$work/hf/hub/models--local--smol" "$out/hf/hub/models--local--other"
    HF_HOME=$out/hf refused 'does not run this model' "$patchboard" sweep "$out/one.tsv" --model local/other --on ndif --ndif-host $host --out "$out/refused"
    rm -r "$out/hf"
    refused 'cannot be reached' "$patchboard" sweep "$out/one.tsv" --model $repo --on ndif --ndif-host http://127.0.0.1:9 --out "$out/refused"

    say "A server that is killed in the middle, and the same command again"
    there "$out/two.tsv" "${settings[@]}" --out "$out/killed" >"$out/killed.log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        ls "$out/killed"/*.partial >/dev/null 2>&1 && break
        sleep 0.1
    done
    kill -9 -- -$pid_api
    if wait $pid; then fail "a killed server was no failure"; fi
    tail -2 "$out/killed.log"
    cat "$out/killed.log" >>"$out/all.log"
    say "$(cat "$out/killed"/*.partial | wc -l) waves were kept"
    start_api
    logged there "$out/two.tsv" "${settings[@]}" --out "$out/killed" | grep '^ndif  \|swept'
    compare "$out/here-right" "$out/killed"

    say "A server whose requests may take 6 s"
    stop_server
    start_server 6
    logged there "$out/two.tsv" "${settings[@]}" --out "$out/limited" | grep 'longer than\|^ndif  \|swept'
    compare "$out/here-right" "$out/limited"
}

for part in $parts; do
    [ "$part" = families ] || "$part"
done

say "No key was printed or written"
for key in $trusted $plain $unknown no-key-at-all; do
    if grep -rl -- "$key" "$out"; then fail "a key is in these files"; fi
done
stop_server
rm -rf "$out"
say "All passed"
