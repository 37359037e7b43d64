#!/usr/bin/env bash
# Check the JavaScript of the pages with ESLint and TypeScript. npm installs both by their lock file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 1; }

if ! command -v npm >/dev/null; then
  how="the check of the pages' JavaScript needs Debian's packages nodejs and npm"
  command -v apt-get >/dev/null || fail "$how, or Node.js on the PATH"
  [ "$(id -u)" = 0 ] || fail "$how (here: sudo apt-get install nodejs npm)"
  echo "javascript: installing nodejs and npm from Debian's packages" >&2
  alone() { flock /tmp/lakescore-apt.lock "$@"; } # apt-get does not wait for another one
  { alone apt-get update && alone apt-get install -y --no-install-recommends nodejs npm; } \
    >/dev/null 2>&1 ||
    fail "$how; apt-get install nodejs npm failed"
fi

home=.venv/share/lakescore/javascript
stamp=$(cksum scripts/javascript/package-lock.json)
if [ "$(cat "$home/installed" 2>/dev/null)" != "$stamp" ]; then
  echo "javascript: installing the packages of scripts/javascript/package-lock.json" >&2
  rm -rf "$home"
  mkdir -p "$home"
  cp scripts/javascript/package.json scripts/javascript/package-lock.json "$home"
  npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund >&2
  echo "$stamp" >"$home/installed"
fi
node "$home/node_modules/typescript/bin/tsc" --project scripts/javascript/tsconfig.json
NODE_PATH="$home/node_modules" node "$home/node_modules/eslint/bin/eslint.js" \
  --config scripts/javascript/eslint.config.cjs --no-warn-ignored \
  lib/lakescore/reporting/page lib/lakescore/serving/page
