#!/usr/bin/env bash
# From a fresh clone to the first heatmaps: installs what is missing, builds, fetches the default
# model, sweeps example pairs and says where to look. Running it again is quick.
source "$(dirname "$0")/lib.sh"

need_tools
say "Building (the first time takes several minutes)"
cargo build --release --workspace --exclude web
patchboard=target/release/patchboard

say "Sweeping capitals: a strong effect, with answers of their own"
"$patchboard" sweep static/examples/capitals.tsv --template none --limit 3

say "Sweeping power: does the sentence say that somebody was forced, or helped?"
"$patchboard" sweep static/examples/power.tsv --template forced --answers forced,helped \
    --only "Queen Elizabeth" --only "the bishop" --only "the duchess"

say "Where to look"
for figure in results/*.png; do
    printf '  %s\n' "$PWD/$figure"
done
