#!/bin/sh
# Makes a virtual environment and installs this checkout into it, editable, with the extras asked for.
# Quick when nothing changed: each extra leaves a stamp of the pyproject.toml that it came from.
#
# Usage: scripts/setup.sh VENV EXTRAS [PYTHON]      e.g. scripts/setup.sh .venv train,ui
set -eu

venv=$1
extras=$2
wanted=${3:-}
stamps=$venv/.mlflow-carbon

die() {
  printf 'mlflow-carbon: %s\n' "$@" >&2
  exit 1
}

fits() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  for candidate in ${wanted:-python3 python3.13 python3.12 python3.11}; do
    if fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  found=$("${wanted:-python3}" --version 2>/dev/null) || found="no ${wanted:-python3} that runs"
  die "expected Python 3.11 or newer, got $found." \
    "Install one (for example 'apt install python3', 'brew install python' or pyenv)," \
    "or name it: make PYTHON=/path/to/python3.12 ..."
}

make_venv() {
  python=$(find_python)
  echo "Making $venv with $("$python" --version) ..."
  if ! "$python" -m venv --clear "$venv" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv"
    die "'$python -m venv' gave no environment with pip (see above)." \
      "On Debian and Ubuntu: apt install python3-venv. Else name another Python: make PYTHON=... "
  fi
}

is_installed() {
  for extra in $(echo "$extras" | tr ',' ' '); do
    [ "$(cat "$stamps/$extra" 2>/dev/null)" = "$fingerprint" ] || return 1
  done
}

# Only the large downloads are shown: they are what takes long. The rest is in the log.
show_progress() {
  awk '/(Downloading|Using cached) .* MB\)/ { print "  " $1, $2, $3, $4; fflush() }
       /^Installing collected/ { print "  Installing " NF - 3 " packages ..."; fflush() }'
}

install() {
  echo "Installing .[$extras] into $venv (some minutes the first time) ..."
  mkdir -p "$stamps"
  rm -f "$stamps/failed"
  {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -e ".[$extras]" 2>&1 ||
      : >"$stamps/failed"
  } | tee "$stamps/pip.log" | show_progress
  if [ -e "$stamps/failed" ]; then
    tail -n 15 "$stamps/pip.log" >&2
    die "pip could not install the project; its last lines are above, all of them in $stamps/pip.log." \
      "Check the network and pip's configuration, then run the same command again."
  fi
  for extra in $(echo "$extras" | tr ',' ' '); do
    echo "$fingerprint" >"$stamps/$extra"
  done
}

[ -f mlflow_carbon/_version.py ] || die "expected to run at the top of the repository, got $(pwd)."
fingerprint="$(pwd) $(cksum <pyproject.toml)"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
is_installed || install
