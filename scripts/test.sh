#!/usr/bin/env bash
# Runs the tests: the native ones; what a client sees, on each kind of bucket; the rest.
#
#   scripts/test.sh FILE...    only these files, with what they need
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"

MESS_PYTHON=$(python_of test)/bin
export MESS_PYTHON

bash scripts/build.sh
bash scripts/build.sh tools
# A file that hangs is ended.
run() { node --test --test-timeout=$((300000 + ${MESS_KILLS:-20} * 30000)) --test-reporter=spec "$@"; }
if [ $# -gt 0 ]; then
  run "$@"
  exit
fi
cargo test --locked
for backend in r2 filesystem s3; do
  echo "test: what a client sees, on $backend" >&2
  MESS_BACKEND=$backend run 'tests/api/*.test.js'
done
echo "test: the rest" >&2
run 'tests/*.test.js' 'tests/bench/*.test.js' 'tests/delivery/*.test.js' 'tests/selfhost/*.test.js'
