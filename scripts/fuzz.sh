#!/usr/bin/env bash
# Runs every fuzz target for a minute each, or as libFuzzer's options say: scripts/fuzz.sh -max_total_time=600
# What a target found lies under fuzz/artifacts, with the command that shows it again.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2
    exit 1
fi
if ! rustup toolchain list | grep -q '^nightly'; then
    echo "a nightly toolchain is missing: rustup toolchain install nightly --profile minimal" >&2
    exit 1
fi
options=("$@")
[ ${#options[@]} -gt 0 ] || options=(-max_total_time=60)
# Apart from the other builds: the sanitizer's compile everything anew.
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
for target in fuzz/fuzz_targets/*.rs; do
    cargo +nightly fuzz run --target-dir "$target_dir" "$(basename "$target" .rs)" -- "${options[@]}"
done
