#!/usr/bin/env bash
# Runs a Node program of the project once what it needs is there: `npm start`, `npm run mess`.
# A release brings the build and needs workerd alone; a checkout builds what the program runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/steps.sh
source scripts/steps.sh

install_workerd() {
  npm install --omit=dev --no-save --no-audit --no-fund
  cp package-lock.json node_modules/.mess-lock
}

if [ -f build/RELEASE ]; then
  cmp -s package-lock.json node_modules/.mess-lock ||
    run_step "installing workerd, the runtime (about ten seconds)" install_workerd
else
  bash scripts/setup.sh
  case $1 in
    selfhost/mess.js) bash scripts/build.sh tools ;;
    *) bash scripts/build.sh ;;
  esac
  export PATH="$PWD/node_modules/.bin:$PATH"
fi
exec node "$@"
