#!/usr/bin/env bash
# Runs shards of a real table on a real SLURM of one node, with everything that can go wrong: a task
# killed in the middle, a time limit, a cancelled array, a second submission. The study must be that of
# the undivided table. Needs root and Debian's packages; not part of the test command.
#   scripts/check-slurm.sh [FOLDER]
# PATCHBOARD names another program than the release build.
source "$(dirname "$0")/lib.sh"

work=${1:-$(mktemp -d)}
mkdir -p "$work"
work=$(cd "$work" && pwd)

say "SLURM"
for tool in slurmctld slurmd munged; do
    command -v $tool >/dev/null || missing=1
done
[ -z "${missing:-}" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge
slurm=$work/slurm
mkdir -p "$slurm"/{state,spool,log,munge}
chmod 755 "$slurm/munge"
host=$(hostname -s)
cat >"$slurm/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$slurm/munge/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.pid
SlurmctldLogFile=$slurm/log/slurmctld.log
SlurmdLogFile=$slurm/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=2
OverTimeLimit=0
SlurmctldTimeout=30
SlurmdTimeout=30
SchedulerParameters=sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
export SLURM_CONF=$slurm/slurm.conf
if [ ! -e "$slurm/munge/munge.key" ]; then
    head -c 1024 /dev/urandom >"$slurm/munge/munge.key"
    chmod 600 "$slurm/munge/munge.key"
fi
munged --force -S "$slurm/munge/munge.sock" --key-file "$slurm/munge/munge.key" \
    --log-file "$slurm/munge/munged.log" --pid-file "$slurm/munge/munged.pid" \
    --seed-file "$slurm/munge/munged.seed"
slurmctld -f "$SLURM_CONF" -c
slurmd -f "$SLURM_CONF"
stop() { pkill -F "$slurm/slurmd.pid"; pkill -F "$slurm/slurmctld.pid"; pkill -F "$slurm/munge/munged.pid"; }
trap 'stop || true' EXIT
for _ in $(seq 30); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
    sleep 1
done
sinfo --noheader --format=%T | grep -q idle || fail "the node did not become idle: see $slurm/log"

say "Patchboard"
[ -n "${PATCHBOARD:-}" ] || cargo build --release --package compute
patchboard=${PATCHBOARD:-target/release/patchboard}
table=static/examples/capitals.tsv
# Enough work that a task is met before it is done.
settings=("$table" --template none --site resid_pre,attn_out,mlp_out,resid_post)
sweep=("${settings[@]}" --cpus 1 --shards 4)
# Two studies of the same table are the same to the bit, whatever they cost and when.
same() {
    python3 - "$1" "$2" <<'PY'
import json, sys
one, other = (json.load(open(path)) for path in sys.argv[1:])
for study in (one, other):
    study.pop("provenance")
def compare(a, b, path):
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            compare(a[key], b[key], path + [key])
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for at, (x, y) in enumerate(zip(a, b)):
            compare(x, y, path + [at])
    else:
        assert a == b, (path, a, b)
compare(one, other, [])
print("the same study, to the bit")
PY
    cmp "$(dirname "$1")/values.safetensors" "$(dirname "$2")/values.safetensors"
}
wait_for() { # a text in the queue's states, or none of them
    for _ in $(seq 120); do
        if squeue --noheader --array --format=%T | grep -q "$1"; then return; fi
        sleep 0.5
    done
    fail "the queue never said $1"
}

say "The whole table at once"
"$patchboard" sweep "${settings[@]}" --format json --quiet --out "$work/whole"

say "An array of four shards"
"$patchboard" slurm "${sweep[@]}" --print --out "$work/array" | grep -- '--array=1-4'
time "$patchboard" slurm "${sweep[@]}" --out "$work/array"
same "$work/whole/study/study.json" "$work/array/study/study.json"

say "A task killed in the middle, and the same command again"
"$patchboard" slurm "${sweep[@]}" --out "$work/killed" &
wait_for RUNNING
for _ in $(seq 200); do
    ls "$work/killed"/*.json >/dev/null 2>&1 && break
    sleep 0.1
done
n_killed=0
for pid in $(scontrol listpids | awk 'NR > 1 { print $1 }' | sort -u); do
    # Of a task's processes the one that sweeps, not the script around it.
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = patchboard ]; then
        kill -9 "$pid"
        n_killed=$((n_killed + 1))
    fi
done
[ $n_killed -gt 0 ] || fail "nothing to kill"
if wait %1; then fail "a killed task was no failure"; fi
n_kept=$(ls "$work/killed"/*.json | wc -l)
"$patchboard" slurm "${sweep[@]}" --out "$work/killed"
same "$work/whole/study/study.json" "$work/killed/study/study.json"
say "$n_kept results were kept"

say "A command that is interrupted, attached to again, and a cancelled array"
"$patchboard" slurm "${sweep[@]}" --out "$work/cancelled" >"$work/cancelled.log" 2>&1 &
wait_for RUNNING
kill -INT %1
if wait %1; then fail "an interrupted command was no failure"; fi
grep -q 'goes on without this command' "$work/cancelled.log"
"$patchboard" slurm "${sweep[@]}" --out "$work/cancelled" >"$work/attached.log" 2>&1 &
sleep 1
scancel --user=root
if wait %1; then fail "a cancelled array was no failure"; fi
grep -q 'following job' "$work/attached.log"
"$patchboard" slurm "${sweep[@]}" --out "$work/cancelled"
same "$work/whole/study/study.json" "$work/cancelled/study/study.json"

say "A time limit"
if "$patchboard" slurm "$table" --template none --cpus 1 --shards 1 --site resid_post,attn_out,mlp_out,z \
    --by position --time 00:01:00 --out "$work/late" >"$work/late.log" 2>&1; then
    fail "a task over its time was no failure"
fi
grep -q 'DUE TO TIME LIMIT' "$work/late.log"
say "All passed: $work"
