# Sourced by the scripts that do things which take a while: shows each as one step.
# shellcheck shell=bash
#
#   begin "what it does (about how long)" command...     starts a step in the background
#   finish_all                                           waits for all that were begun
#   run_step "what it does (about how long)" command...  does both
#
# A step is a line with what is being done and about how long it takes. At a terminal the line
# counts the seconds; elsewhere a second line says how long it took. What a command writes is
# shown only when it fails: the last 40 lines.

say() { echo "$(basename "$0" .sh): $*" >&2; }

# The steps that were begun, each as "pid log second-of-its-begin what"; how each has ended; and how
# many lines of the terminal show them.
steps=()
ended=()
shown=0

begin() { # begin "what it does" command...
  local what=$1 log
  shift
  log=$(mktemp)
  ("$@" >"$log" 2>&1 </dev/null) &
  steps+=("$! $log $SECONDS $what")
  [ -t 2 ] || say "$what"
  trap end_steps EXIT
  trap "exit 130" INT
  trap "exit 143" TERM
}

finish_all() {
  local failed=0 at pid log began what running
  while :; do
    running=0
    for at in "${!steps[@]}"; do
      read -r pid log began what <<<"${steps[at]}"
      [ -z "${ended[at]:-}" ] || continue
      if kill -0 "$pid" 2>/dev/null; then
        running=1
        continue
      fi
      if wait "$pid"; then
        ended[at]="done in $((SECONDS - began)) s"
      else
        ended[at]="FAILED after $((SECONDS - began)) s"
        failed=1
      fi
      [ -t 2 ] || say "$what: ${ended[at]}"
    done
    [ ! -t 2 ] || show_steps
    [ "$running" = 1 ] || break
    sleep 0.2
  done
  for at in "${!steps[@]}"; do
    read -r pid log began what <<<"${steps[at]}"
    if [[ ${ended[at]} == FAILED* ]]; then
      say "the end of what was written by: $what"
      tail -n 40 "$log" >&2
    fi
    rm -f "$log"
  done
  steps=()
  ended=()
  shown=0
  [ "$failed" = 0 ]
}

run_step() {
  begin "$@"
  finish_all
}

# Writes the lines of the steps over those that are there. What does not fit on a line is cut off,
# since it would take another.
show_steps() {
  local at pid log began what
  [ "$shown" = 0 ] || printf '\e[%dA' "$shown" >&2
  printf '\e[?7l' >&2
  for at in "${!steps[@]}"; do
    read -r pid log began what <<<"${steps[at]}"
    printf '\r\e[K[%s] %s\n' "${ended[at]:-$((SECONDS - began)) s}" "$what" >&2
  done
  printf '\e[?7h' >&2
  shown=${#steps[@]}
}

# Ends what still runs when the script is told to stop: what runs in the background does not hear
# of Ctrl-C by itself.
end_steps() {
  local step pid log began what
  trap "" INT TERM
  for step in "${steps[@]}"; do
    read -r pid log began what <<<"$step"
    # shellcheck disable=SC2046 # one word for each process
    kill -TERM $(descendants "$pid") "$pid" 2>/dev/null || true
    rm -f "$log"
  done
}

# The processes that a process started, and those that they started.
descendants() {
  local child
  for child in $(ps -A -o pid=,ppid= 2>/dev/null | awk -v parent="$1" '$2 == parent { print $1 }'); do
    descendants "$child"
    echo "$child"
  done
}
