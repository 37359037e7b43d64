#!/usr/bin/env bash
# Compare the engines with MLflow's own function and the limit (docs/benchmark/). --quick uses small
# sizes. --check compares the last run with the targets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv
# Jobs and tests do not need the packages of the other contenders.
[ "$*" = --check ] || "$uv" pip install -q --python .venv/bin/python --require-hashes \
  -r scripts/bench/requirements.lock -r tests/flavours.lock
# MLflow looks for uv there.
PATH="$PWD/.venv/bin:$PATH" PYTHONPATH=scripts:jobs exec .venv/bin/python -u -m bench "$@"
