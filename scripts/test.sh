#!/usr/bin/env bash
# Set up, then run all tests, or the tests that pytest's arguments select. `--wide` alone runs all
# tests, and those that repeat others in another way. Three tests run at once, because one of them
# often waits; so two cores are busy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
installing=()
start() { "$@" & installing+=($!); } # most of them wait for the network
selects() { [[ -z "$*" || "$*" == --wide ]] && return 1 || return 0; }
needs() { # FOLDER: whether the arguments can select tests of this folder
  local folder=$1
  shift
  ! selects "$@" || [[ "$*" == *"$folder"* ]]
}
! needs tests/browser "$@" || start scripts/chromium.sh
! needs tests/spark "$@" || start scripts/flavours.sh
! needs tests/e2e "$@" || start scripts/tools.sh release
! needs tests/e2e "$@" && ! needs tests/browser "$@" || start scripts/tools.sh site
for process in "${installing[@]}"; do wait "$process"; done
selects "$@" || set -- "$@" --numprocesses 3 --no-loadscope-reorder
exec .venv/bin/python -m pytest "$@"
