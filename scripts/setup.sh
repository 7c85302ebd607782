#!/usr/bin/env bash
# Installs what is missing to build, run and test the exchange; does nothing when all is there.
#
#   scripts/setup.sh              what `npm start` and `npm run deploy` need
#   scripts/setup.sh test         and what `npm test` needs
#   scripts/setup.sh check        and what `npm run check` needs
#
# Needs rustup (or another Rust with cargo), Node with npm, a C compiler and, on Linux,
# OpenSSL's headers (libssl-dev, pkg-config). Tools are built once and kept in
# ~/.cache/mess-exchange (MESS_CACHE changes that).
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/env.sh"
# shellcheck source=scripts/steps.sh
source scripts/steps.sh

npm_is_current() { cmp -s package-lock.json node_modules/.mess-lock; }
install_npm() {
  # Not `npm ci`: it fails when a mirror lacks the binaries of some other platform.
  npm install --no-save --no-audit --no-fund
  cp package-lock.json node_modules/.mess-lock
}

# Tools need no optimised build: they run for seconds. They are built into one folder, so that
# what they share is compiled once.
build_tools() {
  export CARGO_TARGET_DIR=$CACHE/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
  # The wrapper for WebAssembly is not meant for programs of this machine.
  unset RUSTC
  if [ ! -x "$CACHE/worker-build-$WORKER_BUILD/bin/worker-build" ]; then
    cargo install worker-build --version "$WORKER_BUILD" --locked --debug \
      --root "$CACHE/worker-build-$WORKER_BUILD"
  fi
  if [ ! -x "$WASM_BINDGEN_BIN" ]; then
    # Not --locked: its lock file may name versions that a mirror does not have.
    cargo install wasm-bindgen-cli --version "$WASM_BINDGEN" --bin wasm-bindgen --debug \
      --root "$CACHE/wasm-bindgen-$WASM_BINDGEN"
  fi
  rm -rf "$CARGO_TARGET_DIR"
}

# The standard library for WebAssembly: from rustup, or else built from Debian's packages.
add_wasm_target() {
  if rustup target add "$WASM_TARGET"; then
    return
  fi
  if ! command -v apt-get >/dev/null; then
    echo "rustup cannot download $WASM_TARGET, and there is no apt-get to do without: run 'rustup target add $WASM_TARGET'"
    return 1
  fi
  install_debian_rust
}

# The second way, for machines that reach Debian's packages but not rustup's: Debian's compiler,
# its source of the standard library built for WebAssembly, and the linker that rustup brought.
install_debian_rust() {
  local sysroot=$DEBIAN_RUST/sysroot work lld
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  apt-get install -y --no-install-recommends rustc-web rust-web-src
  lld=$(find "$(rustc --print sysroot)/lib/rustlib" -name rust-lld -type f | head -n 1)
  [ -n "$lld" ] || { echo "this Rust has no rust-lld, the linker for WebAssembly"; return 1; }

  work=$(mktemp -d)
  mkdir -p "$work/src"
  : >"$work/src/lib.rs"
  printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n' >"$work/Cargo.toml"
  # Bitcode, or link-time optimisation across the standard library fails.
  (cd "$work" && RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
    CARGO_TARGET_DIR=$work/target cargo build --release --target "$WASM_TARGET" \
    -Z build-std=std,panic_abort,panic_unwind,test,proc_macro)

  # A sysroot of its own, beside Debian's and not in it.
  rm -rf "$DEBIAN_RUST"
  mkdir -p "$sysroot/lib/rustlib/$WASM_TARGET/lib" "$DEBIAN_RUST/bin"
  find "$work/target/$WASM_TARGET/release/deps" -name 'lib*.rlib' ! -name 'libempty*' \
    -exec cp {} "$sysroot/lib/rustlib/$WASM_TARGET/lib/" \;
  ln -s /usr/lib/rustlib/*-linux-gnu "$sysroot/lib/rustlib/"
  ln -s "$lld" "$DEBIAN_RUST/bin/rust-lld"
  printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot %s -C linker=%s "$@"\n' "$sysroot" \
    "$DEBIAN_RUST/bin/rust-lld" >"$DEBIAN_RUST/bin/rustc-wasm"
  cat >"$DEBIAN_RUST/bin/rustc" <<WRAPPER
#!/bin/sh
# Debian's compiler with the standard library for WebAssembly; other targets as ever.
case " \$* " in
  *" $WASM_TARGET "*) exec "$DEBIAN_RUST/bin/rustc-wasm" "\$@" ;;
  *) exec /usr/bin/rustc "\$@" ;;
esac
WRAPPER
  chmod +x "$DEBIAN_RUST/bin/rustc" "$DEBIAN_RUST/bin/rustc-wasm"
  rm -rf "$work"
}

install_python() { # install_python name
  local place
  place=$(python_of "$1")
  rm -rf "$CACHE/python-$1-"*
  python3 -m venv "$place"
  # What the index answers is what was looked at when it was written down, or nothing is installed.
  "$place/bin/pip" install --quiet --require-hashes --requirement "scripts/python/$1.txt"
  touch "$place/.complete"
}

mkdir -p "$CACHE"
# One at a time: two checkouts share the cache.
if command -v flock >/dev/null; then
  exec 9>"$CACHE/lock"
  flock -n 9 || { say "waiting for another set-up to finish"; flock 9; }
fi

command -v cargo >/dev/null || { say "needs Rust: install it from https://rustup.rs"; exit 1; }
npm_is_current || begin "installing npm packages (about half a minute)" install_npm
if [ ! -x "$CACHE/worker-build-$WORKER_BUILD/bin/worker-build" ] || [ ! -x "$WASM_BINDGEN_BIN" ]; then
  begin "building worker-build and wasm-bindgen (about 4 minutes on two cores, once per version)" build_tools
fi
if ! has_wasm_target && [ ! -x "$DEBIAN_RUST/bin/rustc" ]; then
  begin "adding Rust's target $WASM_TARGET (seconds; 3 minutes where rustup cannot download it)" add_wasm_target
fi
if [ -n "${1:-}" ] && [ ! -f "$(python_of "$1")/.complete" ]; then
  command -v python3 >/dev/null || { say "npm run $1 needs python3 with venv"; exit 1; }
  begin "installing what npm run $1 takes from Python's package index (about half a minute)" install_python "$1"
fi
finish_all
