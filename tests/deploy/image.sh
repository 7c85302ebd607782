#!/usr/bin/env bash
# Lints deploy/docker/, puts together what the image holds, and runs it as a container would be run,
# without Docker: in a bare Debian, by the very commands of the Dockerfile.
#
#   npm run test:image
#
# Needs Debian or a system like it, root, and curl. The first time it takes a minute, for it gets a
# bare Debian, and keeps it in ~/.cache/mess-exchange; from then on ten seconds.
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
data=$work/data
log=$work/log
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
running=

# What was mounted is gone with the last process of a container.
clean_up() {
  [ -z "$running" ] || stop KILL || true
  rm -rf "$work"
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

# --- What the Dockerfile says, as bash: of its last stage, the environment and so on, and as
# `assemble` the steps that make its files.
declare node suite image_workdir image_volume image_user image_port
declare -a environment entrypoint command health
image=$(python3 - deploy/docker/Dockerfile <<'PYTHON'
import json, posixpath, re, shlex, sys

text = re.sub(r"^#.*\n", "", open(sys.argv[1]).read(), flags=re.M).replace("\\\n", " ")
lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
last = max(at for at, (word, _) in enumerate(lines) if word == "FROM")
given = {"workdir": "/", "environment": {}, "volume": "", "user": "", "port": ""}
steps = []
for word, rest in lines[last + 1 :]:
    if word == "RUN":
        steps.append(["inside", rest.strip()])
    elif word == "COPY":
        stage, source, target = re.fullmatch(r"--from=(\S+)\s+(\S+)\s+(\S+)", rest).groups()
        steps.append(["copy", stage, source, posixpath.join(given["workdir"], target)])
    elif word == "ENV":
        given["environment"] |= dict(pair.split("=", 1) for pair in shlex.split(rest))
    elif word == "HEALTHCHECK":
        given["health"] = json.loads(rest.split("CMD", 1)[1])
    elif word in ("ENTRYPOINT", "CMD"):
        given[word.lower()] = json.loads(rest)
    elif word in ("WORKDIR", "USER", "VOLUME", "EXPOSE"):
        given["port" if word == "EXPOSE" else word.lower()] = rest.strip()
    elif word not in ("ARG", "LABEL"):
        sys.exit(f"image.sh does not know {word}")
node, suite = re.search(r"^ARG NODE=node:(\d+)-(\w+)-slim$", text, re.M).groups()
words = lambda these: "(" + " ".join(map(shlex.quote, these)) + ")"
print(f"node={node} suite={suite}")
for name in ("workdir", "volume", "user", "port"):
    print(f"image_{name}={shlex.quote(given[name])}")
print("environment=" + words(f"{name}={value}" for name, value in given["environment"].items()))
print("entrypoint=" + words(given["entrypoint"]))
print("command=" + words(given["entrypoint"] + given["cmd"]))
print("health=" + words(given["health"]))
print("assemble() {\n" + " &&\n".join(shlex.join(step) for step in steps) + "\n}")
PYTHON
)
eval "$image"

# --- The bare Debian, once.
mkdir -p "$cache"
debian=$cache/debian-$suite-$(dpkg --print-architecture).tar
if [ ! -f "$debian" ]; then
  if ! command -v debootstrap >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends debootstrap; } >/dev/null
  fi
  timeout 600 debootstrap --variant=minbase "$suite" "$work/debian" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
  tar -C "$work/debian" -cf "$debian.$$" .
  mv "$debian.$$" "$debian"
  rm -rf "$work/debian"
fi

# --- The files of the image.

# What the official image adds to Debian: Node, and what installs packages, here only by its names.
make_node_image() {
  mkdir -p "$root"
  tar -C "$root" -xf "$debian"
  local lib=/usr/local/lib/node_modules yarn=/opt/yarn-v1.22.22/bin name
  cp -L node_modules/node/bin/node "$root/usr/local/bin/node"
  ln -s node "$root/usr/local/bin/nodejs"
  for name in "$lib"/{npm/bin/npm,npm/bin/npx,corepack/dist/corepack} "$yarn"/{yarn,yarnpkg}; do
    install -D -m 755 /dev/null "$root$name"
    ln -s "$name" "$root/usr/local/bin/"
  done
}

# A RUN of the Dockerfile.
inside() { env -i PATH="$path" chroot "$root" /bin/sh -c "$1"; }

# A COPY of the Dockerfile: the stage `build` is this checkout, `modules` is what npm installs
# there without install scripts, taken from this checkout.
copy() {
  local source
  case $1:$2 in
    build:/src/*) source=${2#/src/} ;;
    modules:/app/*)
      source=$work/modules/${2#/app/}
      mkdir -p "$source/@cloudflare"
      cp -r node_modules/workerd "$source/"
      rm "$source/workerd/bin/workerd"
      cp -r node_modules/@cloudflare/workerd-* "$source/@cloudflare/"
      ;;
    *) echo "image.sh does not know where $2 of the stage $1 is"; return 1 ;;
  esac
  mkdir -p "$root$3"
  cp -r "$source/." "$root$3"
  chmod -R a+rX,go-w "$root$3"
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

is_sound() { "$linters/bin/python" - "$image_port" "$image_volume" <<'PYTHON'
import re, sys, yaml

port, volume = sys.argv[1:]
text = open("deploy/docker/docker-compose.yml").read()
file = yaml.safe_load(text)
services = file["services"]
known = set(re.findall(r'"([A-Z][A-Z0-9_]+)"', open("selfhost/settings.js").read()))
settings = {"PUBLIC_URL", "REGISTRATION_TOKEN", "DEFAULT_TIMEZONE", "SECRETS_KEY",
            "DEFAULT_EXCHANGE", "OUTBOUND_ALLOW_PRIVATE", "NUDGES"}

def same(what, got, wanted):
    assert got == wanted, f"{what}: got {got!r}, want {wanted!r}"

same("services", set(services), {"mess-exchange", "mess-exchange-minio", "minio", "minio-bucket"})
same("profiles", [s["profiles"] for s in services.values()], [["filesystem"]] + 3 * [["minio"]])
# Compose asks for required variables even of services that it does not start.
assert ":?" not in text, "a required variable"
for name, service in services.items():
    same(f"{name}: cap_drop", service["cap_drop"], ["ALL"])
    same(f"{name}: security_opt", service["security_opt"], ["no-new-privileges:true"])
    for used in service.get("networks", []):
        assert used == "default" or used in file["networks"], f"{name}: network {used}"
    for used in service.get("volumes", []):
        assert used.split(":")[0] in file["volumes"], f"{name}: volume {used}"
    for other, how in service.get("depends_on", {}).items():
        is_server = "healthcheck" in services[other]
        wanted = "service_healthy" if is_server else "service_completed_successfully"
        same(f"{name} depends on {other}", how["condition"], wanted)
    if name.startswith("mess-exchange"):
        same(f"{name}: port", service["ports"][0].rsplit(":", 1)[1], port)
        same(f"{name}: read_only, tmpfs", (service["read_only"], service["tmpfs"]), (True, "/tmp"))
        assert settings <= set(service["environment"]) <= known, f"{name}: settings"
        assert not any(service["environment"][setting] for setting in settings), f"{name}: a value"
    else:
        assert "ports" not in service, f"{name}: ports"
        same(f"{name}: networks", service["networks"], ["bucket"])
        assert re.search(r":RELEASE[^:]*}$", service["image"]), f"{name}: its version is not pinned"
same("volume", services["mess-exchange"]["volumes"], [f"data:{volume}"])
same("network of the bucket", file["networks"]["bucket"], {"internal": True})
store = services["mess-exchange-minio"]["environment"]
minio, bucket = services["minio"]["environment"], services["minio-bucket"]
same("user", minio["MINIO_ROOT_USER"], store["S3_ACCESS_KEY"])
same("password", minio["MINIO_ROOT_PASSWORD"], store["S3_SECRET_KEY"])
host = f"http://{store['S3_ACCESS_KEY']}:{store['S3_SECRET_KEY']}@minio:9000"
same("who makes the bucket", bucket["environment"], {"MC_HOST_minio": host})
same("the bucket's name", bucket["entrypoint"][-1], f"minio/{store['S3_BUCKET']}")
PYTHON
}

# Copies the context as .dockerignore leaves it, and lets the project's own script pack a release
# from it, with a build that is only names.
is_enough() { python3 - "$work/context" <<'PYTHON' &&
import os, re, shutil, sys

rules = [line.strip() for line in open(".dockerignore") if line.strip() and line[0] != "#"]

def pattern(rule):
    parts = re.split(r"(\*\*/|\*)", rule.lstrip("!"))
    return "".join({"**/": "(.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)

def is_kept(path):
    kept = True
    for rule in rules:
        if re.fullmatch(pattern(rule) + "(/.*)?", path):
            kept = rule[0] == "!"
    return kept

for path in (".dev.vars", ".env", ".git/config", "build/index.js", "data/a", "deploy/docker/.env",
             "node_modules/a", "target/a", "tests/a", "selfhost/.env.local", "selfhost/node_modules/a"):
    assert not is_kept(path), f"{path} is in the context"
for folder, folders, files in os.walk("."):
    here = folder[2:] + "/" if folder != "." else ""
    folders[:] = [name for name in folders if is_kept(here + name)]
    for name in filter(lambda name: is_kept(here + name), files):
        os.makedirs(f"{sys.argv[1]}/{here}", exist_ok=True)
        shutil.copy(here + name, f"{sys.argv[1]}/{here}")
for line in re.findall(r"^COPY (?!--from)(.*) \S+$", open("deploy/docker/Dockerfile").read(), re.M):
    for source in line.split():
        assert os.path.exists(f"{sys.argv[1]}/{source}"), f"{source} is not in the context"
PYTHON
  (
    cd "$work/context" &&
      ls src/lib.rs Cargo.toml Cargo.lock build.rs scripts/setup.sh scripts/build.sh &&
      echo 'mkdir -p build/tools; touch build/{,tools/}{index.js,index_bg.wasm,manifest.json}' >scripts/build.sh &&
      bash scripts/release.sh
  ) &&
    diff <(cd "$work/context/build/release/mess-exchange" && find . | sort) \
      <(cd build/release/mess-exchange && find . | grep -v -e ./deploy/docker -e ./deploy/helm | sort)
}

check "hadolint finds nothing in the Dockerfile" "$linters/bin/hadolint" deploy/docker/Dockerfile
check "the compose file is one, by Compose's own schema" \
  "$linters/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/docker/docker-compose.yml
check "its services are confined, and fit each other and the image" is_sound
check "the build has all it needs of the context, and no secret" is_enough
check "a release is deployed to Cloudflare without Rust, but for the last step" deploys_alone
make_node_image
check "the last stage's steps can be done" assemble
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
