#!/bin/sh
# Installs what `make demo` and `make test` need, or says in one line what is missing.
set -eu

missing() {
    echo "missing: $1; install it with: $2" >&2
    exit 1
}

# Runs a command as root, if this user can.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

apt_install() {
    command -v apt-get >/dev/null || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

has_postgresql() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

# Debian keeps it off a user's PATH.
has_pgbouncer() {
    command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]
}

command -v cargo >/dev/null || missing "Rust 1.95 or newer" "curl https://sh.rustup.rs -sSf | sh"
command -v cc >/dev/null || apt_install build-essential || missing "a C compiler" "sudo apt-get install build-essential"

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    apt_install nodejs npm || missing "Node.js 20 or newer with npm" "see https://nodejs.org"
fi
[ "$(node --version | sed 's/v\([0-9]*\).*/\1/')" -ge 20 ] || missing "Node.js 20 or newer (this is $(node --version))" "see https://nodejs.org"

if [ "${1:-}" = test ]; then
    has_postgresql || { echo "installing PostgreSQL for the tests" && apt_install postgresql; } || true
    has_postgresql || missing "PostgreSQL 15 or newer (the server's programs)" "sudo apt-get install postgresql"
    has_pgbouncer || { echo "installing pgbouncer for the tests" && apt_install pgbouncer; } || true
    has_pgbouncer || missing "pgbouncer" "sudo apt-get install pgbouncer"
fi

if [ "${1:-}" = test ] || [ "${1:-}" = notebook ]; then
    command -v python3 >/dev/null || apt_install python3 python3-venv || missing "Python 3.11 or newer" "sudo apt-get install python3 python3-venv"
    if [ ! -x .venv/bin/pip ]; then
        rm -rf .venv
        python3 -m venv .venv || { apt_install python3-venv && python3 -m venv .venv; } || missing "Python's venv" "sudo apt-get install python3-venv"
    fi
    for part in notebooks tests/legacy tests/readers; do
        [ "$part" = notebooks ] || [ "$1" = test ] || continue
        noted=.venv/$(basename "$part")-requirements.txt
        if ! cmp -s "$part/requirements.txt" "$noted"; then
            echo "installing the packages of $part into .venv"
            .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$part/requirements.txt" || missing "the packages of $part" ".venv/bin/pip install -r $part/requirements.txt"
            cp "$part/requirements.txt" "$noted"
        fi
    done
fi

# What the export's benchmark races against.
if [ "${1:-}" = bench ]; then
    [ -x .venv-bench/bin/pip ] || python3 -m venv .venv-bench || missing "Python's venv" "sudo apt-get install python3-venv"
    if ! cmp -s benches/export/requirements.txt .venv-bench/requirements.txt; then
        echo "installing the packages of benches/export into .venv-bench"
        .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benches/export/requirements.txt ||
            missing "the packages of benches/export" ".venv-bench/bin/pip install -r benches/export/requirements.txt"
        cp benches/export/requirements.txt .venv-bench/requirements.txt
    fi
fi
