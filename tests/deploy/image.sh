#!/usr/bin/env bash
# Lints deploy/docker/, builds the image by its Dockerfile, and runs it as a container would be run.
#
#   npm run test:image
#
# Docker builds it where it runs. Elsewhere buildah does, without the registry that has the base images:
# each is stood in for by a bare Debian with the Node of package.json or the Rust of this machine, and
# what scripts/setup.sh has built is there already. The result runs in a chroot.
#
# Needs Debian or a system like it, root, and curl. It takes about three minutes, and one more the first
# time, for it installs buildah and gets two bare Debians, which it keeps in ~/.cache/mess-exchange.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "$0")/../../scripts/env.sh"

fail() { echo "image: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "must be run as root: it mounts, and becomes another user"
[ -f build/release/mess-exchange/build/RELEASE ] || fail "run 'npm run release' first"
[ -x node_modules/node/bin/node ] || fail "run 'npm run setup' first"

cache=$CACHE
linters=$(python_of check)
work=$(mktemp -d)
root=$work/root
context=$work/context
data=$work/data
log=$work/log
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
running=

# What a container mounts is gone with its last process. What a build mounts, too; but if it were not, it
# would be this machine's own compiler, which must not be removed with the rest.
clean_up() {
  [ -z "$running" ] || stop KILL || true
  awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r place; do umount --lazy "$place"; done
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

passed=0 failed=0
check() { # check "what holds" command...
  local what=$1
  shift
  if "$@" >"$work/said" 2>&1; then
    passed=$((passed + 1))
    echo "ok      $what"
  else
    failed=$((failed + 1))
    echo "FAILED  $what"
    tail -n 20 "$work/said" | sed 's/^/        /'
  fi
}

# --- Building it.

builder=buildah
if docker info >/dev/null 2>&1; then builder=docker; fi
# What the Dockerfile says its base images are: the release line of Node, and the suite of Debian.
[[ $(grep '^ARG NODE=' deploy/docker/Dockerfile) =~ ^ARG\ NODE=node:([0-9]+)-([a-z]+)-slim@ ]] ||
  fail "the Dockerfile names no Node"
node=${BASH_REMATCH[1]} suite=${BASH_REMATCH[2]}
# Debian's name for the suite of this machine.
here=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
host_cache=/root/.cache/mess-exchange

# What git knows or would take, with secrets beside it that it must not take into the image.
secret=s3cr3t-$RANDOM$RANDOM
make_context() {
  local file
  mkdir "$context"
  git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -c |
    tar -C "$context" -x
  for file in .env .dev.vars deploy/.env deploy/docker/.env selfhost/.env.local docs/.dev.vars .git/config; do
    mkdir -p "$(dirname "$context/$file")"
    echo "$secret" >"$context/$file"
  done
}

# A bare Debian as a .tar of the cache: debian_tar NAME SUITE [PACKAGE...]
debian_tar() {
  local tar bare=$work/debian
  tar=$cache/debian-$1-$2-$(dpkg --print-architecture).tar
  if [ ! -f "$tar" ]; then
    mkdir -p "$cache"
    timeout 600 debootstrap --variant=minbase "$2" "$bare" >&2
    if [ $# -gt 2 ]; then
      # With the sources of this machine, which have updates.
      rm -rf "$bare/etc/apt"
      cp -r /etc/apt "$bare/etc/"
      chroot "$bare" apt-get update >&2
      DEBIAN_FRONTEND=noninteractive chroot "$bare" apt-get install -y --no-install-recommends "${@:3}" >&2
      chroot "$bare" apt-get clean
    fi
    tar -C "$bare" -cf "$tar.$$" .
    mv "$tar.$$" "$tar"
    rm -rf "$bare"
  fi
  echo "$tar"
}

buildah() { command buildah --storage-driver=vfs --root "$work/storage" --runroot "$work/run" "$@"; }

# Makes an image of a directory: stand_in NAME DIRECTORY OPTION... (those of buildah config)
stand_in() {
  local container
  # The authorities and the registry of this machine's npm: a mirror may have its own.
  local authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
  mkdir -p "$2/usr/local/etc"
  cp "$authorities" "$2/usr/local/etc/authorities.crt"
  printf 'cafile=/usr/local/etc/authorities.crt\nregistry=%s\n' "$(npm config get registry)" \
    >"$2/usr/local/etc/npmrc"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$2" /
  buildah config "${@:3}" "$container"
  buildah commit --quiet --rm "$container" "localhost/$1"
  rm -rf "$2"
}

# What the official image adds to Debian: Node and npm, and yarn and corepack, here only by their names.
stand_in_for_node() {
  local made=$work/node lib=/usr/local/lib/node_modules yarn=/opt/yarn-v1.22.22/bin name
  mkdir -p "$made"
  tar -C "$made" -xf "$(debian_tar bare "$suite")"
  mkdir -p "$made$lib"
  cp -L node_modules/node/bin/node "$made/usr/local/bin/node"
  ln -s node "$made/usr/local/bin/nodejs"
  name=$(readlink -f "$(command -v npm)")
  cp -r "${name%/bin/*}" "$made$lib/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$made/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$made/usr/local/bin/npx"
  for name in "$lib/corepack/dist/corepack" "$yarn"/{yarn,yarnpkg}; do
    install -D -m 755 /dev/null "$made$name"
    ln -s "$name" "$made/usr/local/bin/"
  done
  stand_in node "$made" --env "PATH=$path"
}

# This machine's Rust, which is mounted in the build, in the Debian of this machine.
stand_in_for_rust() {
  local made=$work/rust packages=(gcc libc6-dev libssl-dev pkg-config) name=build
  # See scripts/setup.sh: the second way of getting a compiler for WebAssembly.
  if ! has_wasm_target; then packages+=(rustc-web) name=build-rust; fi
  mkdir -p "$made"
  tar -C "$made" -xf "$(debian_tar "$name" "$here" "${packages[@]}")"
  if [ -f "${CARGO_HOME:-$HOME/.cargo}/config.toml" ]; then
    mkdir -p "$made/root/.cargo"
    cp "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$made/root/.cargo/"
  fi
  stand_in rust "$made" --env "PATH=/toolchain/bin:$path" \
    --env SSL_CERT_FILE=/usr/local/etc/authorities.crt
}

install_builder() {
  local missing=() name
  for name in buildah debootstrap; do [ -n "$(type -P "$name")" ] || missing+=("$name"); done
  [ ${#missing[@]} = 0 ] ||
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; }
}

# In a shell of its own that ends at the first failure, which `check` itself would not.
build_image() (
  set -e
  local tool options=()
  if [ "$builder" = docker ]; then
    docker build --tag "mess-exchange-test:$$" --file deploy/docker/Dockerfile "$context"
    return
  fi
  install_builder
  stand_in_for_node
  stand_in_for_rust
  for tool in "worker-build-$WORKER_BUILD" "wasm-bindgen-$WASM_BINDGEN" "${DEBIAN_RUST##*/}"; do
    [ ! -d "$cache/$tool" ] || options+=(--volume "$cache/$tool:$host_cache/$tool:ro")
  done
  # What this checkout has compiled of others' crates need not be compiled again; what is in src/ is.
  if [ -d target ]; then
    mkdir "$work/target"
    cp -r target/wasm32-unknown-unknown target/release "$work/target/" 2>/dev/null || true
    options+=(--volume "$work/target:/src/target")
  fi
  # The format of Docker, since the other one has no health check.
  buildah bud --isolation=chroot --pull-never --format docker --tag localhost/mess-exchange \
    --volume "$(rustc --print sysroot):/toolchain:ro" "${options[@]}" \
    --build-arg NODE=localhost/node --build-arg RUST=localhost/rust \
    --file deploy/docker/Dockerfile "$context"
)

# The files of the image as the directory $root, and its configuration as JSON.
unpack_image() {
  local container
  if [ "$builder" = docker ]; then
    container=$(docker create "mess-exchange-test:$$")
    mkdir "$root"
    docker export "$container" | tar -C "$root" -x
    docker inspect "mess-exchange-test:$$" >"$work/image.json"
    docker rm "$container" >/dev/null
    docker rmi "mess-exchange-test:$$" >/dev/null
  else
    buildah inspect --type image localhost/mess-exchange >"$work/image.json"
    container=$(buildah from --pull-never localhost/mess-exchange)
    root=$(buildah mount "$container")
  fi
}

# That configuration as bash.
read_image() { python3 - "$work/image.json" <<'PYTHON'
import json, shlex, sys

given = json.load(open(sys.argv[1]))
given = given[0]["Config"] if isinstance(given, list) else given["Docker"]["config"]
words = lambda these: "(" + " ".join(map(shlex.quote, these)) + ")"
(volume,), (port,) = given["Volumes"], given["ExposedPorts"]
settings = {"workdir": given["WorkingDir"], "volume": volume, "user": given["User"]}
for name, value in (settings | {"port": port.split("/")[0]}).items():
    print(f"image_{name}={shlex.quote(value)}")
print("environment=" + words(entry for entry in given["Env"] if not entry.startswith("PATH=")))
print("entrypoint=" + words(given["Entrypoint"]))
print("command=" + words(given["Entrypoint"] + given["Cmd"]))
kind, *health = given["Healthcheck"]["Test"]
assert kind == "CMD", kind
print("health=" + words(health))
PYTHON
}

# --- Looking at its files.

inside() { env -i PATH="$path" chroot "$root" /bin/sh -c "$1"; }

has_no_secret() { ! grep -rlF "$secret" "$root/app" "$root/etc" "$root/data" "$root/root"; }

names_digests() {
  local images
  # All that is FROM something is FROM one of the two.
  images=$(grep -E '^(ARG (NODE|RUST)=|FROM )' deploy/docker/Dockerfile | grep -vE 'FROM.* [$][{](NODE|RUST)[}]')
  echo "$images"
  [ "$(grep -cE '^ARG (NODE|RUST)=[a-z]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}$' <<<"$images")" = 2 ] &&
    [ "$(wc -l <<<"$images")" = 2 ]
}

has_no_tools() {
  local found
  found=$(find "$root"/{usr/bin,usr/sbin,usr/local,opt,app} \( -name cargo -o -name rustc \
    -o -name cc -o -name 'gcc*' -o -name 'g++*' -o -name make -o -name npm -o -name npx -o -name 'yarn*' \
    -o -name corepack -o -name '*.rs' -o -name Cargo.toml \))
  [ -z "$found" ] || { echo "$found"; return 1; }
}

# Nothing but the release and workerd, all of it root's and no one else's to write.
has_little() {
  local packages others
  packages=$(cd "$root/app/node_modules" && echo *)
  others=$(find "$root/app" -not -uid 0 -o -perm /022 -not -type l -o -name '.env*' -o -name .git)
  echo "packages: $packages; not as it should be: $others"
  [ "$packages" = "@cloudflare workerd" ] && [ -z "$others" ]
}

fits_the_chart() {
  local chart=deploy/helm/templates/deployment.yaml want
  for want in "runAsUser: ${image_user%:*}" "runAsGroup: ${image_user#*:}" \
    "containerPort: $image_port" "mountPath: $image_volume"; do
    grep -qF "$want" "$chart" || { echo "the chart has no '$want'"; return 1; }
  done
  for want in "PORT=$image_port" "STORAGE_PATH=$image_volume"; do
    [[ " ${environment[*]} " = *" $want "* ]] || { echo "the image has no $want"; return 1; }
  done
}

# --- Running it.

cat >"$work/contain.sh" <<'CONTAIN'
# Makes a container of the directory $1 and of $2 as its volume $3, and runs the rest of the words
# in it as its first process: with the image's user and none of root's powers.
set -e
root=$1 data=$2 volume=$3 user=$4
shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o nosuid,noexec,mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777 tmpfs "$root/tmp"
mount --bind "$data" "$root$volume"
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \
  --bounding-set=-all --no-new-privs "$@"
CONTAIN

# Replaces this shell by a container that runs the words given.
contain() {
  exec unshare --mount --pid --fork --kill-child bash "$work/contain.sh" \
    "$root" "$data" "$image_volume" "$image_user" \
    env -i -C "$image_workdir" PATH="$path" HOME=/ "${environment[@]}" PORT="$port" "$@"
}
once() { (contain timeout 20 "$@"); }

start() {
  (contain "${command[@]}") >>"$log" 2>&1 &
  running=$!
}

# Sends a signal to the first process of the container, and gives the status with which it ends.
stop() {
  local first _
  first=$(cat "/proc/$running/task/$running/children" 2>/dev/null) || true
  # shellcheck disable=SC2086 # a number, or nothing where it has ended
  [ -z "$first" ] || kill -s "$1" $first || true
  for _ in {1..300}; do
    kill -0 "$running" 2>/dev/null || break
    sleep 0.1
  done
  # shellcheck disable=SC2086
  kill -KILL $first "$running" 2>/dev/null || true
  local status=0
  wait "$running" || status=$?
  running=
  return "$status"
}

is_up() {
  local until=$((SECONDS + 30))
  while [ "$SECONDS" -lt "$until" ]; do
    ! curl -fs --max-time 5 "$url/health" || return 0
    kill -0 "$running" 2>/dev/null || break
    sleep 0.2
  done
  cat "$log"
  return 1
}

is_confined() {
  local uid=${image_user%:*} gid=${image_user#*:}
  once cat /proc/self/status | grep -E '^(Uid|Gid|Cap...|NoNewPrivs):' | tee "$work/status" &&
    [ "$(awk '/^[UG]id/ { print $2, $3, $4, $5 }' "$work/status")" = "$uid $uid $uid $uid
$gid $gid $gid $gid" ] &&
    [ "$(awk '/^Cap/ { print $2 }' "$work/status" | sort -u)" = 0000000000000000 ] &&
    grep -q '^NoNewPrivs:.1$' "$work/status"
}

writes_nowhere_else() {
  local written
  # shellcheck disable=SC2016 # for the shell in there
  written=$(once sh -c 'for folder in / /app /app/build /etc /home /run /usr/local /var/tmp /tmp "$@"; do
    if touch "$folder/probe" 2>/dev/null; then rm "$folder/probe"; echo "$folder"; fi
  done' sh "$image_volume" | tr '\n' ' ')
  echo "it could write in: $written"
  [ "$written" = "/tmp $image_volume " ]
}

call() { # call METHOD PATH [BODY], with the key that register stored
  curl -sS --fail-with-body --max-time 10 -X "$1" "$url/api/v1/exchanges/home/$2" \
    -H "Content-Type: application/json" -H "Authorization: Bearer $(cat "$work/key")" ${3:+-d "$3"}
}
register() {
  : >"$work/key"
  call POST register '{"executor_id": "phone", "display_name": "My Phone"}' | tee "$work/answer"
  sed -n 's/.*"api_key":"\([^"]*\)".*/\1/p' "$work/answer" >"$work/key"
  [ -s "$work/key" ]
}
post() {
  call POST requests "{\"intent\": \"$intent\"}" | tee "$work/answer"
  sed -n 's/.*"ref":"\([^"]*\)".*/\1/p' "$work/answer" >"$work/ref"
  [ -s "$work/ref" ]
}
read_back() { call GET "requests/$(cat "$work/ref")" | tee /dev/stderr | grep -qF "$intent"; }
is_unhealthy() { ! once "${health[@]}"; }
stops() {
  local status=0
  stop TERM || status=$?
  echo "it ended with status $status"
  cat "$log"
  return "$status"
}
holds() {
  grep -rqF "$intent" "$data" && [ -z "$(find "$data" -not -uid "${image_user%:*}")" ] ||
    { find "$data" -ls; return 1; }
}

# --- The release itself.

# By the Node of the machine, and with nothing of this checkout in PATH. A release has nothing to
# build from: its wrangler.toml must not ask for a build.
deploys_alone() {
  local node unpacked=$work/unpacked
  node=$(type -ap node | grep -v node_modules | head -n 1)
  local path=${node%/*}:/usr/bin:/bin
  mkdir "$unpacked" && tar -C "$unpacked" -xzf build/release/mess-exchange-*.tar.gz || return 1
  if grep -F 'scripts/build.sh' "$unpacked/mess-exchange/wrangler.toml"; then return 1; fi
  (cd "$unpacked/mess-exchange" && env -i HOME="$HOME" PATH="$path" npm run deploy -- --dry-run) |
    tee "$work/deployed"
  grep -q '^--dry-run: exiting now' "$work/deployed" &&
    grep -q 'env.MESS_BUCKET (mess-exchange)' "$work/deployed"
}

# --- What cannot be tried without Docker.

is_sound() { "$linters/bin/python" - "$image_port" "$image_volume" "$work/password-check" <<'PYTHON'
import json, re, sys, yaml

port, volume = sys.argv[1:3]
text = open("deploy/docker/docker-compose.yml").read()
file = yaml.safe_load(text)
services = file["services"]
exchange = re.search(r"EXCHANGE_SETTINGS = \[(.*?)\]", open("selfhost/settings.js").read(), re.S)
settings = set(re.findall(r'"(\w+)"', exchange.group(1)))
CHECK = "minio-root-password-must-be-set"

def same(what, got, wanted):
    assert got == wanted, f"{what}: got {got!r}, want {wanted!r}"

names = {"mess-exchange", "mess-exchange-minio", "minio", "minio-bucket", CHECK}
same("services", set(services), names)
same("profiles", [s["profiles"] for s in services.values()], [["filesystem"]] + 4 * [["minio"]])
# Compose asks for required variables even of services that it does not start.
assert ":?" not in text, "a required variable"
for name, service in services.items():
    same(f"{name}: cap_drop", service["cap_drop"], ["ALL"])
    same(f"{name}: security_opt", service["security_opt"], ["no-new-privileges:true"])
    assert re.search(r"\d[mg]}$", service["mem_limit"]), f"{name}: memory"
    assert 0 < service["pids_limit"] <= 512, f"{name}: processes"
    for used in service.get("networks", []):
        assert used == "default" or used in file["networks"], f"{name}: network {used}"
    for used in service.get("volumes", []):
        assert used.split(":")[0] in file["volumes"], f"{name}: volume {used}"
    for other, how in service.get("depends_on", {}).items():
        is_server = "healthcheck" in services[other]
        wanted = "service_healthy" if is_server else "service_completed_successfully"
        same(f"{name} depends on {other}", how["condition"], wanted)
    if name.startswith("mess-exchange"):
        # On this machine alone, unless one says otherwise.
        same(f"{name}: ports", service["ports"], [f"${{MESS_PUBLISH:-127.0.0.1:3000}}:{port}"])
        same(f"{name}: read_only, tmpfs", (service["read_only"], service["tmpfs"]), (True, "/tmp"))
        given = {key for key in service["environment"] if not re.match("STORAGE_|S3_", key)}
        same(f"{name}: settings", given, settings)
        assert not any(service["environment"][setting] for setting in settings), f"{name}: a value"
    elif name != CHECK:
        assert "ports" not in service, f"{name}: ports"
        same(f"{name}: networks", service["networks"], ["bucket"])
        assert re.search(r":RELEASE[^:]*}$", service["image"]), f"{name}: its version is not pinned"
same("volume", services["mess-exchange"]["volumes"], [f"data:{volume}"])
same("network of the bucket", file["networks"]["bucket"], {"internal": True})
store = services["mess-exchange-minio"]["environment"]
minio, bucket = services["minio"]["environment"], services["minio-bucket"]
same("user", minio["MINIO_ROOT_USER"], store["S3_ACCESS_KEY"])
same("password", minio["MINIO_ROOT_PASSWORD"], store["S3_SECRET_KEY"])
same("password", store["S3_SECRET_KEY"], "${MINIO_ROOT_PASSWORD-}")
checked = services[CHECK]
same("what is checked", checked["environment"], minio)
assert CHECK in services["minio"]["depends_on"], "nobody waits for the check"
# Compose writes a $ as two. The test runs it in the image.
print(json.dumps([word.replace("$$", "$") for word in checked["entrypoint"]]), file=open(sys.argv[3], "w"))
host = f"http://{store['S3_ACCESS_KEY']}:{store['S3_SECRET_KEY']}@minio:9000"
same("who makes the bucket", bucket["environment"], {"MC_HOST_minio": host})
same("the bucket's name", bucket["entrypoint"][-1], f"minio/{store['S3_BUCKET']}")
PYTHON
}

# Runs what stands before MinIO, with these as its user and password.
asks_for_password() {
  local -a words
  mapfile -t -d "" words < <(python3 -c 'import json, sys
for word in json.load(open(sys.argv[1])): print(word, end="\0")' "$work/password-check")
  (environment=("MINIO_ROOT_USER=$1" "MINIO_ROOT_PASSWORD=$2") && contain timeout 20 "${words[@]}")
}
wants_a_password() {
  local bad
  for bad in "" "short" "with a space in it" 'with/a@slash:' ; do
    if asks_for_password mess-exchange "$bad" >"$work/asked" 2>&1; then echo "took '$bad'"; return 1; fi
    grep -q '^MINIO_ROOT_PASSWORD must be set to' "$work/asked" || { cat "$work/asked"; return 1; }
  done
  asks_for_password mess-exchange 0123456789abcdef && ! asks_for_password "me@home" 0123456789abcdef
}

check "hadolint finds nothing in the Dockerfile" "$linters/bin/hadolint" deploy/docker/Dockerfile
check "the compose file is one, by Compose's own schema" \
  "$linters/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/docker/docker-compose.yml
check "the Dockerfile names its base images by digest" names_digests
check "a release is deployed to Cloudflare without Rust, but for the last step" deploys_alone
make_context
before=$failed
check "$builder builds the image" build_image
[ "$failed" = "$before" ] || fail "there is no image to look at"
unpack_image
declare image_workdir image_volume image_user image_port
declare -a environment entrypoint command health
image=$(read_image)
eval "$image"
check "the compose file's services are confined, and fit each other and the image" is_sound
check "nothing secret that lay beside the sources is in the image" has_no_secret
check "Node is the release line of the image, and finds its libraries" \
  inside "node -p process.version | grep '^v$node\\.'"
check "nothing to build or install with is in the image" has_no_tools
check "the image has the release and workerd, and root owns them" has_little
check "the image fits the chart: user, port, volume" fits_the_chart

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
intent="Check the front door $RANDOM$RANDOM"
mkdir "$data"
chown --reference="$root$image_volume" "$data"
check "MinIO does not start without a password" wants_a_password

check "a container is confined" is_confined
check "a container can write in $image_volume and /tmp, and nowhere else" writes_nowhere_else
check "the health check fails where nothing serves" is_unhealthy
start
check "the exchange comes up" is_up
check "the health check succeeds" once "${health[@]}"
check "an executor registers" register
check "a request is posted" post
check "SIGTERM ends it with status 0" stops
check "the volume has the data, which is the user's" holds
check "the tools run on it, and find it sound" once "${entrypoint[@]}" selfhost/mess.js audit
start
check "it comes up again" is_up
check "the request is still there" read_back
check "SIGTERM ends it again" stops

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
