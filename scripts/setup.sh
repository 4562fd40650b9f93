#!/bin/sh
# Installs what `make demo`, `make test` and the like need, or says in one line what is missing.
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

# The one that Spark will start.
has_java() {
    java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    command -v "$java" >/dev/null && [ "$("$java" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.specification.version = //p')" -ge 17 ] 2>/dev/null
}

command -v cargo >/dev/null || missing "Rust 1.95 or newer" "curl https://sh.rustup.rs -sSf | sh"
command -v cc >/dev/null || apt_install build-essential || missing "a C compiler" "sudo apt-get install build-essential"

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    apt_install nodejs npm || missing "Node.js 20 or newer with npm" "see https://nodejs.org"
fi
[ "$(node --version | sed 's/v\([0-9]*\).*/\1/')" -ge 20 ] || missing "Node.js 20 or newer (this is $(node --version))" "see https://nodejs.org"

if [ "${1:-}" = test ] || [ "${1:-}" = spark ]; then
    has_postgresql || { echo "installing PostgreSQL for the tests" && apt_install postgresql; } || true
    has_postgresql || missing "PostgreSQL 15 or newer (the server's programs)" "sudo apt-get install postgresql"
fi

if [ "${1:-}" = test ]; then
    has_pgbouncer || { echo "installing pgbouncer for the tests" && apt_install pgbouncer; } || true
    has_pgbouncer || missing "pgbouncer" "sudo apt-get install pgbouncer"
fi

# Makes the environment $1, or leaves it as it is.
python_environment() {
    command -v python3 >/dev/null || apt_install python3 python3-venv || missing "Python 3.11 or newer" "sudo apt-get install python3 python3-venv"
    [ -x "$1/bin/pip" ] && return
    rm -rf "$1"
    python3 -m venv "$1" || { apt_install python3-venv && python3 -m venv "$1"; } || missing "Python's venv" "sudo apt-get install python3-venv"
}

# Installs the packages of the folder $2 into the environment $1, once.
python_packages() {
    noted=$1/$(basename "$2")-requirements.txt
    cmp -s "$2/requirements.txt" "$noted" && return
    echo "installing the packages of $2 into $1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2/requirements.txt" || missing "the packages of $2" "$1/bin/pip install -r $2/requirements.txt"
    cp "$2/requirements.txt" "$noted"
}

case "${1:-}" in
test)
    python_environment .venv
    python_packages .venv notebooks
    python_packages .venv tests/legacy
    python_packages .venv tests/readers
    ;;
notebook)
    python_environment .venv
    python_packages .venv notebooks
    ;;
bench)
    # What the export's benchmark races against.
    python_environment .venv-bench
    python_packages .venv-bench benches/export
    python_packages .venv-bench benches/ingest
    ;;
spark)
    has_java || { echo "installing Java for Spark" && apt_install openjdk-17-jre-headless; } || true
    has_java || missing "Java 17 or newer" "sudo apt-get install openjdk-17-jre-headless"
    python_environment .venv-spark
    python_packages .venv-spark tests/spark
    ;;
esac
