#!/bin/sh
# Installs this checkout with one resolution in an environment of its own and runs the fast tests there,
# and those of what we take of MLflow.
# Proves the lower bounds of pyproject.toml, and any one combination of Python and MLflow.
#
# Usage: scripts/bounds.sh PYTHON lowest-direct|highest [REQUIREMENT ...]       (needs uv on PATH)
#   e.g. scripts/bounds.sh python3.12 highest 'mlflow-skinny==3.4.*' 'sqlalchemy<2.1'
set -eu

python=$1
resolution=$2
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

uv venv --quiet --python "$python" "$folder/venv"
echo "Installing with --resolution $resolution ..."
uv pip install --quiet --python "$folder/venv/bin/python" --resolution "$resolution" -e . "$@"
# The test tools come afterwards, so that what they ask for does not decide the resolution.
uv pip install --quiet --python "$folder/venv/bin/python" pytest hypothesis
"$folder/venv/bin/python" --version
uv pip freeze --python "$folder/venv/bin/python" | grep -i -E \
  '^(mlflow-skinny|sqlalchemy|alembic|codecarbon|nvidia-ml-py|psutil|requests|pyyaml|numpy|scipy|platformdirs|rapidfuzz)=='
export MLFLOW_CARBON_HOME="$folder/home"
# The trainer pins torch exactly, so it has no bound to prove; torch is gigabytes.
"$folder/venv/bin/python" -m pytest -m "not slow" -p no:cacheprovider --ignore-glob='*/test_mnist*'
"$folder/venv/bin/python" -m pytest tests/contract/test_mlflow_hooks.py -p no:cacheprovider
