#!/usr/bin/env bash
# Packs what is needed to run and to deploy the exchange, without Rust, into build/release/: the folder
# mess-exchange/ (which is also what the Docker image holds) and the same as a .tar.gz.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/build.sh
bash scripts/build.sh tools

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
out=build/release/mess-exchange
rm -rf build/release
mkdir -p "$out/build/tools" "$out/scripts"
cp build/{index.js,index_bg.wasm,manifest.json} "$out/build/"
cp build/tools/{index.js,index_bg.wasm,manifest.json} "$out/build/tools/"
echo "$version" >"$out/build/RELEASE"
cp -r deploy selfhost docs README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md LICENSE package.json package-lock.json "$out/"
# What is not of the project: settings of whoever packs it, secrets among them.
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  git ls-files --others deploy selfhost docs | while read -r other; do rm -f "$out/$other"; done
fi
find "$out" -name '.env*' -delete
cp scripts/{run,deploy,steps}.sh scripts/{deploy,manifest}.js "$out/scripts/"
# For `npm run deploy`, which builds nothing there.
sed -e '/^#:schema/d' -e '/^\[build\]$/,/^$/d' wrangler.toml >"$out/wrangler.toml"
chmod -R a+rX,go-w "$out"
tar -C build/release --owner=0 --group=0 --numeric-owner -czf "build/release/mess-exchange-$version.tar.gz" mess-exchange
echo "build/release/mess-exchange-$version.tar.gz"
