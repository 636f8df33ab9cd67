#!/usr/bin/env bash
# Sets up what the tests need beside Rust: a Python environment, psql, redis-server.
# What cannot be had is named loudly; the tests that need it skip themselves.
set -euo pipefail

venv=${1:?usage: test-env.sh VENV}
requirements=$(dirname "$0")/../tests/clients/requirements.txt

missing() { echo "test-env: NOT AVAILABLE: $1 ($2); tests that need it are skipped" >&2; }

system_package() { # command, package
    command -v "$1" >/dev/null && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -qq "$2" >/dev/null 2>&1 && return 0
        apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq "$2" >/dev/null 2>&1 && return 0
    fi
    missing "$1" "apt install $2"
}

system_package psql postgresql-client
system_package curl curl

[ -f "$requirements" ] || exit 0
stamp=$venv/.installed
if [ ! -x "$venv/bin/python" ]; then
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" || {
        system_package python3-venv-probe python3-venv 2>/dev/null
        python3 -m venv "$venv" || { echo "test-env: cannot make a Python environment: apt install python3-venv" >&2; exit 1; }
    }
fi
if ! cmp -s "$requirements" "$stamp"; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" \
        || { echo "test-env: cannot install $requirements" >&2; exit 1; }
    cp "$requirements" "$stamp"
fi
