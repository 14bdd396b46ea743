#!/usr/bin/env bash
# Installs the helper with which `patchboard sweep --on ndif` speaks to NDIF, into a virtual environment.
# Needs Python 3.10 or newer and the network.
#   scripts/setup-ndif.sh [FOLDER]      default: where patchboard looks for it
source "$(dirname "$0")/lib.sh"

venv=${1:-$(cache_folder)/ndif/venv}
say "The helper for NDIF, in $venv"
python_environment "$venv" python/ndif/requirements.txt
"$venv/bin/python" -c 'import nnsight; print("nnsight", nnsight.__version__)'
[ -z "${1:-}" ] || say "Name it to patchboard: export PATCHBOARD_NDIF_PYTHON=$venv/bin/python"
