#!/usr/bin/env bash
# Set up, then run all tests, or the tests that pytest's arguments select. Three tests run at once,
# because one of them often waits; so two cores are busy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
[[ $# != 0 && "$*" != *tests/browser* ]] || scripts/chromium.sh
[[ $# != 0 && "$*" != *tests/spark* ]] || scripts/flavours.sh
[[ $# != 0 && "$*" != *tests/e2e* ]] || scripts/tools.sh release
[[ $# != 0 && "$*" != *tests/e2e* && "$*" != *tests/browser* ]] || scripts/tools.sh site
[[ $# != 0 ]] || set -- --numprocesses 3 --no-loadscope-reorder
exec .venv/bin/python -m pytest "$@"
