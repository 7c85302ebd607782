# Sourced by the other scripts: versions, the cache, and where the build finds its tools.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

WORKER_BUILD=0.8.7
# The command-line tool must be of the very version that the crate was locked to.
WASM_BINDGEN=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)

# Built tools are kept outside the checkout, so that a second one finds them.
CACHE=${MESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mess-exchange}
WASM_TARGET=wasm32-unknown-unknown
# Where the second way of getting a Rust compiler for WebAssembly puts it; see setup.sh.
DEBIAN_RUST=$CACHE/debian-rust-wasm

# Where the Python packages of scripts/python/NAME.txt are, by their content.
python_of() { echo "$CACHE/python-$1-$(cksum <"scripts/python/$1.txt" | cut -d " " -f 1)"; }

export PATH="$PWD/node_modules/.bin:$CACHE/worker-build-$WORKER_BUILD/bin:$PATH"
export WASM_BINDGEN_BIN=$CACHE/wasm-bindgen-$WASM_BINDGEN/bin/wasm-bindgen
export WASM_OPT_BIN=$PWD/node_modules/.bin/wasm-opt
export ESBUILD_BIN=$PWD/node_modules/.bin/esbuild
export WRANGLER_SEND_METRICS=false

# Whether the Rust that is first in PATH has the WebAssembly target.
has_wasm_target() {
  [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$WASM_TARGET/lib" ]
}

# Puts the compiler of the second way first, where it was taken.
use_wasm_rust() {
  if ! has_wasm_target && [ -x "$DEBIAN_RUST/bin/rustc" ]; then
    export PATH="$DEBIAN_RUST/bin:$PATH" RUSTC="$DEBIAN_RUST/bin/rustc"
  fi
}
