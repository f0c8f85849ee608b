# Functions for the other scripts, which source this file. It sets `checkout` and `target`, and changes into the checkout.
# shellcheck shell=bash

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$checkout" || exit 1
target=${CARGO_TARGET_DIR:-$checkout/target}
# cargo is often installed for one user only, in a folder that a service's PATH leaves out.
command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$@"; exit 1; }

is_root() { [ "$(id -u)" = 0 ]; }

# as_root COMMAND...
as_root() {
    if is_root; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "this needs root, and there is no sudo: $*"
    fi
}
