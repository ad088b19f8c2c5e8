#!/bin/sh
# Resolves the exact versions that the Dockerfile installs: core, `train` and `ui` for Python 3.11 on Linux.
# torch's own CUDA packages are left out: torch pins them itself, and a CPU build of torch needs none of them.
#
# Usage: scripts/lock.sh FILE          (needs uv on PATH)
set -eu

uv pip compile pyproject.toml --extra train --extra ui \
  --python-version 3.11 --python-platform linux --upgrade \
  --no-emit-index-url --no-emit-find-links --no-annotate --quiet \
  --custom-compile-command "make lock" --output-file "$1.new"
{
  sed -n '1,/^[a-z]/ { /^#/p; }' "$1.new"
  echo "# torch's CUDA packages are left out on purpose, see scripts/lock.sh."
  grep -v -e '^#' -e '^nvidia-[^m]' -e '^cuda-' -e '^triton==' "$1.new"
} >"$1"
rm "$1.new"
echo "$1: $(grep -c '==' "$1") packages"
