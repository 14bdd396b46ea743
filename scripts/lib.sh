# What the other scripts share. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The little that must be there already.
need_tools() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup (https://rustup.rs) and open a new shell"
    command -v cc >/dev/null || fail "a C compiler is missing: install gcc or clang (Debian: apt-get install gcc libc6-dev)"
    command -v python3 >/dev/null || fail "python3 is missing: install Python 3 with pip (Debian: apt-get install python3 python3-pip)"
    # Debian's python3 comes without pip, which the default model is fetched with.
    if ! python3 -m pip --version >/dev/null 2>&1; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            say "Installing pip"
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip
        else
            fail "pip is missing: install it (Debian: sudo apt-get install python3-pip)"
        fi
    fi
}

# What compiles the viewer.
need_wasm() {
    rustup target list --installed | grep -qx wasm32-unknown-unknown ||
        rustup target add wasm32-unknown-unknown
}

# The browser in which the viewer is tested.
need_browser() {
    if ! command -v chromedriver >/dev/null || ! command -v chromium >/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            say "Installing a browser"
            apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver
        else
            fail "chromium and chromedriver are missing: install them (Debian: sudo apt-get install chromium chromium-driver)"
        fi
    fi
}
