# What the scripts share; sourced, never run. Sets `checkout` and `target`, and changes into the checkout.
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

# The user that httpd's children become when root starts it, in wsgictl's order.
server_user() {
    local user
    for user in www-data apache nobody; do
        if id -u "$user" >/dev/null 2>&1; then echo "$user"; return; fi
    done
    die "none of the users www-data, apache and nobody exists"
}

# open_to_all PATH: may every user enter all folders on the way to it, and read it?
open_to_all() {
    local path
    path=$(realpath -e -- "$1" 2>/dev/null) || return 1
    case $(stat -c %A -- "$path") in ???????r*) ;; *) return 1 ;; esac
    while [ "$path" != / ]; do
        path=$(dirname -- "$path")
        case $(stat -c %A -- "$path") in *[xt]) ;; *) return 1 ;; esac
    done
}

# state_folder NAME: where NAME's files go. The server of root's tests or demo runs as another user, who often may not
# enter the checkout; then it is a folder under /var/tmp, where somebody else might have made it first.
state_folder() {
    if is_root; then echo "/var/tmp/mod_wsgi_rs-$1-0"; else echo "$target/$1"; fi
}

# own_folder PATH: makes it, open to readers, and refuses what another user may have put there.
own_folder() {
    mkdir -p -- "$(dirname -- "$1")"
    mkdir -m 0755 -- "$1" 2>/dev/null || true
    [ -d "$1" ] && [ ! -L "$1" ] || die "$1 is not a folder; remove it and try again"
    [ "$(stat -c %u -- "$1")" = "$(id -u)" ] || die "$1 belongs to another user; remove it and try again"
    chmod 0755 -- "$1"
}

# put FROM TO MODE: a copy in one step, for a running server may have the old file mapped.
put() {
    if [ ! -L "$2" ] && cmp -s -- "$1" "$2"; then chmod "$3" -- "$2"; return; fi
    install -m "$3" -- "$1" "$2.new.$$"
    mv -f -T -- "$2.new.$$" "$2"
}

# put_link TARGET LINK
put_link() {
    ln -sfn -- "$1" "$2.new.$$"
    mv -f -T -- "$2.new.$$" "$2"
}

# The Python to prefer: what $PYTHON says, else the distribution's.
preferred_python() { echo "${PYTHON:-/usr/bin/python3}"; }

# make_venv FOLDER PYTHON REQUIREMENTS: a virtual environment, made again only when one of these has changed. What the
# installation takes is bounded, for an index that is cut off can hang instead of failing.
make_venv() {
    local venv=$1 python=$2 requirements=$3 stamp
    stamp=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)'; cat -- "$requirements")
    if [ "$(cat -- "$venv/made-from" 2>/dev/null)" = "$stamp" ]; then return; fi
    say "making a virtual environment in $venv with $(basename -- "$requirements") (from the Python package index)"
    rm -rf -- "$venv"
    "$python" -m venv "$venv" || return
    # Every pip builds what has no wheel by PEP 517; that of Python 3.11 only when told, and warns otherwise.
    timeout 600 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 -r "$requirements" >&2 ||
        return
    chmod -R a+rX -- "$venv"
    printf '%s\n' "$stamp" >"$venv/made-from"
}
