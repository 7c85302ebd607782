#!/usr/bin/env bash
# Packs what is needed to run the exchange, without Rust, into build/release/: the folder
# mess-exchange/ (which is also what the Docker image holds) and the same as a .tar.gz.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/build.sh
bash scripts/build.sh tools

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
out=build/release/mess-exchange
rm -rf build/release
mkdir -p "$out/build/tools" "$out/scripts"
cp build/index.js build/index_bg.wasm "$out/build/"
cp build/tools/index.js build/tools/index_bg.wasm "$out/build/tools/"
echo "$version" >"$out/build/RELEASE"
cp -r deploy tools README.md CHANGELOG.md LICENSE package.json package-lock.json docs "$out/"
# Where docker compose takes its settings from, secrets among them.
find "$out" -name '.env*' -delete
cp scripts/run.sh "$out/scripts/"
tar -C build/release -czf "build/release/mess-exchange-$version.tar.gz" mess-exchange
echo "build/release/mess-exchange-$version.tar.gz"
