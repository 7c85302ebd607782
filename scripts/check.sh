#!/usr/bin/env bash
# Everything that is checked without running the exchange: format, lints, docs, unused
# dependencies, spelling, shell scripts, Helm chart.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"
python=$(python_of check)/bin

step() { echo "check: $*" >&2; }

step "format"
cargo fmt --check
biome ci --error-on-warnings .
step "lints, unused dependencies (the lint unused_crate_dependencies)"
cargo clippy --locked --all-targets --all-features -- -D warnings
step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
step "spelling"
"$python/typos"
step "shell scripts"
"$python/shellcheck" -x scripts/*.sh tests/deploy/*.sh .ci/run
step "Python's packages"
# What is named in an .in file stands in the .txt beside it, with its hashes.
for name in check test; do
  sed -e '/^#/d' -e 's/\[.*\]//' "scripts/python/$name.in" | while read -r package; do
    grep -qiF "$package \\" "scripts/python/$name.txt" ||
      { echo "scripts/python/$name.txt lacks $package: its first lines say how it is made"; exit 1; }
  done
done
step "Helm chart"
"$python/python" tests/deploy/helm.py
