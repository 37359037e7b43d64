#!/usr/bin/env bash
# Install what scripts/release.sh runs, at the versions of its lock file, in an environment of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=.venv/share/lakescore/release
stamp=$(cksum scripts/release/requirements.lock)
if [ "$(cat "$tools/installed" 2>/dev/null)" != "$stamp" ]; then
  uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  echo "release: installing the packages of scripts/release/requirements.lock" >&2
  "$uv" venv -q --clear --python .venv/bin/python "$tools"
  "$uv" pip sync -q --python "$tools/bin/python" --require-hashes scripts/release/requirements.lock
  echo "$stamp" >"$tools/installed"
fi
