#!/usr/bin/env bash
# Serves the exchange on http://localhost:3000 with a local R2 bucket.
#
#   PORT         another port
#   MESS_STATE   where the bucket lies (default .wrangler/state)
#   --watch      rebuild on every change of the source, faster and not optimised
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"

[ "${1:-}" = --watch ] && export MESS_BUILD=--dev
exec wrangler dev --port "${PORT:-3000}" --persist-to "${MESS_STATE:-.wrangler/state}" \
  --show-interactive-dev-session=false
