#!/usr/bin/env bash
# Install the browser that tests/browser and scripts/measure_page.py drive, where it is missing.
set -euo pipefail

fail() { echo "error: $*" >&2; exit 1; }

! command -v chromium >/dev/null || exit 0
how="the report's tests need Debian's package chromium"
command -v apt-get >/dev/null || fail "$how, or a browser of that name on the PATH"
[ "$(id -u)" = 0 ] || fail "$how (here: sudo apt-get install chromium)"
echo "chromium: installing it from Debian's packages" >&2
{ apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
  fail "$how; apt-get install chromium failed"
