#!/usr/bin/env bash
# Measure the engines against MLflow's own way and the limit: docs/benchmark/. --quick: five minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
exec .venv/bin/python scripts/bench.py "$@"
