#!/usr/bin/env bash
# Measure the engines against MLflow's own way and the limit: docs/benchmark/. --quick: small sizes.
# --check holds the last run against the targets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv
# What other contenders need is no part of the environment that the jobs and the tests run in.
[ "$*" = --check ] || "$uv" pip install -q --python .venv/bin/python --require-hashes \
  -r scripts/bench/requirements.lock
PYTHONPATH=scripts:jobs exec .venv/bin/python -u -m bench "$@"
