#!/usr/bin/env bash
# Builds the Worker with worker-build, unless the last build is newer than everything it was
# made from, and whole.
#
#   scripts/build.sh           build/, the exchange
#   scripts/build.sh tools     build/tools/, the tools Worker
#
# With MESS_BUILD=--dev faster and not optimised, into build/dev/, so that the build that is served
# and deployed stays what it is. The file manifest.json, written last, says that a build is whole.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"
# shellcheck source=scripts/steps.sh
source scripts/steps.sh

what=${1:-exchange}
mode=${MESS_BUILD:---release}
case $mode in
  --release) out=build ;;
  --dev) out=build/dev ;;
  *) echo "build: MESS_BUILD must be --release or --dev" >&2; exit 1 ;;
esac
case $what in
  exchange) features=() name="the exchange" ;;
  tools) out=$out/tools features=(--features tools) name="the tools" ;;
  *) echo "build: no such thing to build: $what" >&2; exit 1 ;;
esac

stamp=$out/.built$mode
sources=(src Cargo.toml Cargo.lock build.rs scripts/build.sh scripts/env.sh scripts/manifest.js)
if [ -f "$stamp" ] && node scripts/manifest.js check "$out" "${mode#--}" 2>/dev/null &&
  [ "$(cat "$stamp")" = "$(git rev-parse HEAD 2>/dev/null)" ] &&
  [ -z "$(find "${sources[@]}" -newer "$stamp" -print -quit)" ]; then
  exit 0
fi

build() {
  use_wasm_rust
  # worker-build replaces its folder; what the other variant left there is kept apart.
  local work=build/.work-$what$mode
  worker-build "$mode" --no-opt --out-dir "$work" -- "${features[@]}"
  mkdir -p "$out"
  rm -f "$out/manifest.json"
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
  node scripts/manifest.js write "$out" "${mode#--}"
}

run_step "compiling $name (a minute or two the first time, then half a minute)" build
