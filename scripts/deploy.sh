#!/usr/bin/env bash
# Deploys the exchange to Cloudflare: `npm run deploy`, with the options of `wrangler deploy`; deploy.js
# says what it makes. A checkout builds it first. A release brings the build and needs Node alone: it
# gets the wrangler and the Node of package.json, since this wrangler needs a newer Node than the
# exchange does.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/steps.sh
source scripts/steps.sh

# A package with the version that package.json has.
pinned() { node -p "'$1@' + require('./package.json').devDependencies['$1']"; }

# In a folder of its own, or npm would bring everything that developers need.
place=build/wrangler
install_wrangler() {
  rm -rf "$place"
  mkdir -p "$place"
  npm install --prefix "$place" --no-save --no-audit --no-fund "${packages[@]}"
  echo "${packages[*]}" >"$place/complete"
}

if [ -f build/RELEASE ]; then
  node scripts/manifest.js check build
  packages=("$(pinned wrangler)" "$(pinned node)")
  [ "$(cat "$place/complete" 2>/dev/null)" = "${packages[*]}" ] ||
    run_step "installing wrangler (about half a minute)" install_wrangler
  export PATH="$PWD/$place/node_modules/.bin:$PATH"
else
  bash scripts/setup.sh
  # wrangler lets scripts/build.sh build, which reads this.
  export MESS_BUILD=--release
  export PATH="$PWD/node_modules/.bin:$PATH"
  # wrangler would build as well, but nothing is made at Cloudflare for a build that fails.
  bash scripts/build.sh
fi
export WRANGLER_SEND_METRICS=false
exec node scripts/deploy.js "$@"
