#!/usr/bin/env bash
# Set up, then run all tests, or the tests that pytest's arguments select. Three tests run at once,
# because one of them often waits; so two cores are busy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
installing=()
start() { "$@" & installing+=($!); } # most of them wait for the network
[[ $# != 0 && "$*" != *tests/browser* ]] || start scripts/chromium.sh
[[ $# != 0 && "$*" != *tests/spark* ]] || start scripts/flavours.sh
[[ $# != 0 && "$*" != *tests/e2e* ]] || start scripts/tools.sh release
[[ $# != 0 && "$*" != *tests/e2e* && "$*" != *tests/browser* ]] || start scripts/tools.sh site
for process in "${installing[@]}"; do wait "$process"; done
[[ $# != 0 ]] || set -- --numprocesses 3 --no-loadscope-reorder
exec .venv/bin/python -m pytest "$@"
