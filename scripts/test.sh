#!/usr/bin/env bash
# Set up, then run the tests: all of them, two folders at a time, or those that pytest's arguments
# choose.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
[[ $# != 0 && "$*" != *tests/browser* ]] || scripts/chromium.sh
[[ $# != 0 && "$*" != *tests/spark* ]] || scripts/flavours.sh
[[ $# != 0 ]] || set -- --numprocesses 2
exec .venv/bin/python -m pytest "$@"
