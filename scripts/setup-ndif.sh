#!/usr/bin/env bash
# Installs the helper with which `patchboard sweep --on ndif` speaks to NDIF, into a virtual environment.
# Needs Python 3.10 or newer and the network.
#   scripts/setup-ndif.sh [FOLDER]      default: where patchboard looks for it
source "$(dirname "$0")/lib.sh"

cache=${XDG_CACHE_HOME:-$HOME/.cache}
[ "$(uname)" != Darwin ] || cache=$HOME/Library/Caches
venv=${1:-$cache/patchboard/ndif/venv}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "found $("$python" --version 2>&1), expected Python 3.10 or newer: name one by PYTHON"
say "The helper for NDIF, in $venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --requirement python/ndif/requirements.txt
"$venv/bin/python" -c 'import nnsight; print("nnsight", nnsight.__version__)'
[ -z "${1:-}" ] || say "Name it to patchboard: export PATCHBOARD_NDIF_PYTHON=$venv/bin/python"
