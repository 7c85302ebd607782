#!/usr/bin/env bash
# Builds the Worker with worker-build, unless the last build is newer than everything it was
# made from.
#
#   scripts/build.sh             build/, the exchange (MESS_BUILD=--dev: faster, not optimised)
#   scripts/build.sh tools     build/tools/, the tools Worker
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"

what=${1:-exchange}
mode=${MESS_BUILD:---release}
case $what in
  exchange) out=build features=() ;;
  tools) out=build/tools features=(--features tools) ;;
  *) echo "build: no such thing to build: $what" >&2; exit 1 ;;
esac

stamp=$out/.built$mode
sources=(src Cargo.toml Cargo.lock build.rs scripts/build.sh scripts/env.sh)
if [ -f "$stamp" ] && [ -f "$out/index_bg.wasm" ] &&
  [ "$(cat "$stamp")" = "$(git rev-parse HEAD 2>/dev/null)" ] &&
  [ -z "$(find "${sources[@]}" -newer "$stamp" -print -quit)" ]; then
  exit 0
fi

use_wasm_rust
# worker-build replaces its folder; what the other variant left there is kept apart.
work=build/.work-$what
worker-build "$mode" --no-opt --out-dir "$work" -- "${features[@]}" >&2
mkdir -p "$out"
cp "$work/index.js" "$out/"
if [ "$mode" = --release ]; then
  # For size, and without the names of functions: a sixth of what a cold start must load. Only
  # these features: later binaryen encodings may be unknown to workerd.
  wasm-opt -Oz --strip-debug --strip-producers --enable-mutable-globals --enable-sign-ext \
    --enable-nontrapping-float-to-int --enable-bulk-memory --enable-multivalue \
    --enable-reference-types --enable-exception-handling \
    "$work/index_bg.wasm" -o "$out/index_bg.wasm"
else
  cp "$work/index_bg.wasm" "$out/"
fi
rm -rf "$work" "$out"/.built*
git rev-parse HEAD >"$stamp" 2>/dev/null || echo >"$stamp"
