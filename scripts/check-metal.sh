#!/usr/bin/env bash
# Type-checks the engine with `--features metal` for Apple silicon, on any machine: nothing is linked,
# so that a stand-in for Apple's C compiler will do. A minute, and not part of test.sh.
source "$(dirname "$0")/lib.sh"

need_tools
target=aarch64-apple-darwin
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
tools=$PWD/target/metal/tools
mkdir -p "$tools"
cat >"$tools/cc" <<'CC'
#!/usr/bin/env bash
# Writes an empty object.
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then : >"$2"; fi
    shift
done
CC
cat >"$tools/ar" <<'AR'
#!/usr/bin/env bash
# Writes an empty library.
for argument in "$@"; do
    case "$argument" in *.a) : >"$argument" ;; esac
done
AR
chmod +x "$tools"/*
export CC_aarch64_apple_darwin=$tools/cc CXX_aarch64_apple_darwin=$tools/cc
export AR_aarch64_apple_darwin=$tools/ar SDKROOT=$tools CARGO_TARGET_DIR=$PWD/target/metal/build
cargo check --package compute --features metal --target "$target"
say "Type-checked with Metal; nothing was run"
