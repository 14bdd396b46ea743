#!/usr/bin/env bash
# Gives the readers of documents, studies, links, tables, events and addresses a million random inputs each,
# or as many as named, and prints the slowest and the largest. What fails goes into
# shared/tests/corpus, where the ordinary tests find it.
#
#   scripts/fuzz-readers.sh [CASES] [SEED]
source "$(dirname "$0")/lib.sh"

PATCHBOARD_FUZZ_CASES=${1:-1000000} PATCHBOARD_FUZZ_SEED=${2:-0} \
    cargo test --release --package shared --test readers -- --nocapture
