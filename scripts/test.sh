#!/usr/bin/env bash
# Runs every test: the native ones, then the integration suite against the release build.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"

cargo test --locked
bash scripts/build.sh
bash scripts/build.sh tools
node --test --test-reporter=spec 'tests/*.test.js'
