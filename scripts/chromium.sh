#!/usr/bin/env bash
# Install the browser for tests/browser and scripts/measure_page.py, if it is missing.
set -euo pipefail

fail() { echo "error: $*" >&2; exit 1; }

! command -v chromium >/dev/null || exit 0
how="the report's tests need Debian's package chromium"
command -v apt-get >/dev/null || fail "$how, or a browser named chromium on the PATH"
[ "$(id -u)" = 0 ] || fail "$how (here: sudo apt-get install chromium)"
echo "chromium: installing Debian's package" >&2
alone() { flock /tmp/lakescore-apt.lock "$@"; } # apt-get does not wait for another one
{ alone apt-get update && alone apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
  fail "$how; apt-get install chromium failed"
