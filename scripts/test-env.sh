#!/usr/bin/env bash
# Sets up what the tests need beside Rust: a Python environment, psql, redis-server, a store of Azure.
# What cannot be had is named loudly; the tests that need it skip themselves.
set -euo pipefail

venv=${1:?usage: test-env.sh VENV}
requirements=$(dirname "$0")/../tests/clients/requirements.txt

missing() { echo "test-env: NOT AVAILABLE: $1 (install it with: $2); tests that need it are skipped" >&2; }

apt_install() { # package
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    apt-get install -y -qq "$1" >/dev/null 2>&1 && return 0
    apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq "$1" >/dev/null 2>&1
}

program() { # command, package
    command -v "$1" >/dev/null || apt_install "$2" || missing "$1" "apt install $2"
}

program psql postgresql-client
program curl curl

[ -f "$requirements" ] || exit 0
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv" && mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" 2>/dev/null || { apt_install python3-venv && python3 -m venv "$venv"; } || {
        echo "test-env: cannot make a Python environment; install it with: apt install python3-venv" >&2
        exit 1
    }
fi
installed=$venv/installed.txt
if ! cmp -s "$requirements" "$installed"; then
    echo "test-env: installing Python clients" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || {
        echo "test-env: cannot install $requirements; the Python package index must be reachable the first time" >&2
        exit 1
    }
    cp "$requirements" "$installed"
fi

# A store as Azure has it.
if [ ! -x "$venv/node/node_modules/.bin/azurite-blob" ] && ! command -v azurite-blob >/dev/null; then
    command -v npm >/dev/null && npm install --prefix "$venv/node" --no-audit --no-fund --silent azurite@3.35.0 ||
        missing azurite "npm install -g azurite"
fi

# Spark is large and needs Java: who has neither goes without. It fetches Delta's jars itself, the first time it starts.
spark=$(dirname "$0")/../tests/clients/requirements-spark.txt
jars=$venv/spark-jars
spark_environment() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$spark" || return 1
    rm -rf "$jars"
    timeout 300 "$venv/bin/python" "$(dirname "$0")/../tests/clients/spark_jars.py" "$jars" >"$venv/spark.log" 2>&1 || return 1
    cp "$spark" "$venv/installed-spark.txt"
}
if [ -f "$spark" ] && ! cmp -s "$spark" "$venv/installed-spark.txt"; then
    if command -v java >/dev/null; then
        echo "test-env: installing Spark with Delta" >&2
        spark_environment || missing "Spark with Delta" "pip install -r tests/clients/requirements-spark.txt, and its jars"
    else
        missing "Java 17, for Spark" "apt install openjdk-17-jre-headless"
    fi
fi
