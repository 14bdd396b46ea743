# A real NDIF of one model on the CPU, on loopback. Sourced by scripts/check-ndif.sh within namespaces of
# its own for network and processes: Ray listens on every address, and leaves processes behind.
# Expects: work (a folder with a short path: Ray puts sockets there), venv, repo.

port=28001
host=http://127.0.0.1:$port
model_key="nnsight.modeling.transformers.TransformersModel:{\"repo_id\": \"$repo\", \"revision\": null, \"task\": \"text-generation\"}"
# Keys of nobody: one that is trusted, one that is not, and one that does not exist.
trusted=11111111-1111-4111-8111-111111111111
plain=22222222-2222-4222-8222-222222222222
unknown=33333333-3333-4333-8333-333333333333

# What is to be removed in the end.
folders=()

wait_for() { # SECONDS COMMAND...
    local n=$1
    shift
    for _ in $(seq "$n"); do
        "$@" >/dev/null 2>&1 && return
        sleep 1
    done
    fail "gave up on: $*"
}
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
in_background() { # NAME COMMAND...
    local name=$1
    shift
    nice -n 10 setsid "$@" >"$work/log/$name.log" 2>&1 </dev/null &
    eval "pid_$name=$!"
}

start_accounts() {
    local data bin
    bin=$(echo /usr/lib/postgresql/*/bin)
    # Where another user can get to it.
    data=$(mktemp -d /tmp/patchboard-accounts-XXXX)
    chown postgres "$data"
    folders+=("$data")
    runuser -u postgres -- "$bin/initdb" -D "$data" -A trust >"$work/log/initdb.log"
    in_background postgres runuser -u postgres -- "$bin/postgres" -D "$data" -h 127.0.0.1 -p 25432 -k ''
    wait_for 120 answers 25432
    wait_for 120 psql -q -h 127.0.0.1 -p 25432 -U postgres -c 'select 1'
    psql -q -h 127.0.0.1 -p 25432 -U postgres <<SQL
create table users (user_id int primary key, email text);
create table keys (key_id uuid primary key, user_id int);
create table user_tags (user_tag_id int primary key, name text);
create table key_user_tag_assignments (key_id uuid, user_tag_id int);
insert into users values (1, 'one@example.org');
insert into keys values ('$trusted', 1), ('$plain', 1);
insert into user_tags values (1, 'trusted');
insert into key_user_tag_assignments values ('$trusted', 1);
SQL
    export NDIF_POSTGRES_URL=postgresql://postgres@127.0.0.1:25432/postgres
}

start_api() {
    # nnsight gives every object a method `save`, on which anyio stumbles where it is imported later: bodies
    # of more than 1 MiB would be refused.
    printf 'import anyio.abc._sockets, anyio._backends._asyncio\nfrom ndif.services.api.gunicorn_conf import *\n' >"$work/gunicorn.py"
    in_background api "$venv/bin/gunicorn" --config "$work/gunicorn.py" --bind "127.0.0.1:$port" ndif.services.api.app:app
    wait_for 600 curl -sf "$host/connected"
}

# The whole of it; with a number, requests may take so many seconds.
start_server() {
    rm -rf "$work/ray"
    mkdir -p "$work/log" "$work/ray"
    export HF_HOME=$work/hf HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
    export PATH=$venv/bin:$PATH PYTHONPATH=$PWD/tests/ndif OMP_NUM_THREADS=1
    # On a busy machine it takes longer than the half minute that Ray waits by itself.
    export RAY_raylet_start_wait_time_s=600
    export RAY_USAGE_STATS_ENABLED=0 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 GRPC_ENABLE_FORK_SUPPORT=0 AWS_EC2_METADATA_DISABLED=true
    export NDIF_REDIS_URL=redis://127.0.0.1:26379 NDIF_OBJECT_STORE_URL=http://127.0.0.1:29000
    export NDIF_API_PORT=$port NDIF_API_URL=$host NDIF_RAY_HEAD_PORT=26385 NDIF_RAY_ADDRESS=ray://127.0.0.1:21001
    export NDIF_DEFAULT_MODEL_ACTOR_CLASS=cpu_actors.Actor NDIF_DEFAULT_DTYPE=float32 NDIF_DEFAULT_PADDING_BIAS=0
    export NDIF_AUTOSCALING_MAX_REPLICAS=1 NDIF_SANDBOX_POOL_SIZE=1
    start_accounts
    in_background redis redis-server --bind 127.0.0.1 --port 26379 --save '' --appendonly no --dir "$work"
    in_background store moto_server -H 127.0.0.1 -p 29000
    # NDIF only takes nodes that say that they have a GPU.
    in_background ray ray start --head --block --node-ip-address=127.0.0.1 --port=26385 --ray-client-server-port=21001 \
        --num-cpus=8 --num-gpus=1 --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port=28265 \
        --min-worker-port=30000 --max-worker-port=30999 --object-store-memory=200000000 --temp-dir="$work/ray" --disable-usage-stats \
        --resources='{"head": 10, "cuda_memory_bytes": 8000000000, "cpu_memory_bytes": 8000000000}'
    for one in 26379 29000 26385 21001; do wait_for 600 answers $one; done
    RAY_ADDRESS=127.0.0.1:26385 nice -n 10 python -m ndif.services.ray.deployments.controller.controller >"$work/log/controller.log" 2>&1 ||
        fail "the controller did not start: see $work/log/controller.log"
    start_api
    {
        printf 'models:\n  - checkpoint: %s\n    model_key: '"'%s'"'\n    pinned: true\n    dtype: float32\n    size_bytes: 600000000\n' "$repo" "$model_key"
        [ -z "${1:-}" ] || printf '    execution_timeout_seconds: %s\n' "$1"
    } >"$work/models.yaml"
    nice -n 10 ndif deploy -f "$work/models.yaml" >"$work/log/deploy.log" 2>&1 || fail "no model: see $work/log/deploy.log"
}

# Everything in this namespace but this shell.
stop_server() {
    kill -9 -1 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "${folders[@]}"
    folders=()
}
