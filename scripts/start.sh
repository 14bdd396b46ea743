#!/usr/bin/env bash
# From a fresh clone to heatmaps in the browser: installs what is missing, builds, fetches the default
# model, sweeps example pairs, serves them and says where. Running it again is quick.
# PORT chooses the port.
source "$(dirname "$0")/lib.sh"

need_tools
say "Building the viewer (the first time takes several minutes)"
scripts/build-web.sh
say "Building the engine (the first time takes several minutes)"
export PATCHBOARD_VIEWER=dist
cargo build --release --workspace --exclude web
patchboard=target/release/patchboard

say "Sweeping power: does the sentence say that somebody was forced, or helped?"
"$patchboard" sweep static/examples/power.tsv --template forced --answers forced,helped \
    --only "Queen Elizabeth" --only "the bishop" --only "the duchess"

say "Serving (Ctrl-C ends)"
"$patchboard" serve --port "${PORT:-7860}" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
python3 - "http://127.0.0.1:${PORT:-7860}" "$server" results/*.json <<'PY'
import json, os, sys, time, urllib.error, urllib.request

address, server, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
while True:
    try:
        urllib.request.urlopen(address + "/healthz", timeout=5).close()
        break
    except (urllib.error.URLError, OSError):
        os.kill(server, 0)  # Fails once the server has ended, which has said why.
        time.sleep(0.2)
for file in files:
    with open(file, "rb") as data:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(address + "/api/import", data.read(), headers)
    urllib.request.urlopen(request, timeout=60).close()

# A table, whose study fills in while it is swept. The second time it is there already.
with urllib.request.urlopen(address + "/api/jobs", timeout=60) as answer:
    jobs = [job["id"] for job in json.load(answer)["jobs"] if job["name"] == "Capitals"]
if not jobs:
    with open("static/examples/capitals.tsv", "rb") as table:
        query = "?format=tsv&template=none&name=Capitals"
        request = urllib.request.Request(address + "/api/jobs/table" + query, table.read())
    with urllib.request.urlopen(request, timeout=60) as answer:
        jobs = [json.load(answer)["job"]["id"]]
print(f"Capitals, a study of 32 pairs: {address}/#/study/job/{jobs[0]}")
PY
say "Open http://127.0.0.1:${PORT:-7860}/ in a browser"
wait "$server"
