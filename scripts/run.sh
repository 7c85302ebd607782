#!/usr/bin/env bash
# Runs a Node program of the project once what it needs is there: `npm start`, `npm run mess`.
# A release brings the build and needs workerd alone; a checkout builds it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -f build/RELEASE ]; then
  if ! cmp -s package-lock.json node_modules/.mess-lock; then
    npm install --omit=dev --no-save --no-audit --no-fund >&2
    cp package-lock.json node_modules/.mess-lock
  fi
else
  bash scripts/setup.sh
  bash scripts/build.sh
  bash scripts/build.sh tools
  export PATH="$PWD/node_modules/.bin:$PATH"
fi
exec node "$@"
