#!/usr/bin/env bash
# Set up, then run the tests: all of them, or those that pytest's arguments choose. Of three at a time
# one often waits, so that two cores are busy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
[[ $# != 0 && "$*" != *tests/browser* ]] || scripts/chromium.sh
[[ $# != 0 && "$*" != *tests/spark* ]] || scripts/flavours.sh
[[ $# != 0 ]] || set -- --numprocesses 3 --no-loadscope-reorder
exec .venv/bin/python -m pytest "$@"
