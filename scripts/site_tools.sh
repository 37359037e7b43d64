#!/usr/bin/env bash
# Install what scripts/site.sh runs, at the versions of its lock file, in an environment of its own. This
# environment also sees the packages of .venv, because the API reference imports lakescore.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=.venv/share/lakescore/site
stamp=$(cksum scripts/site/requirements.lock)
if [ "$(cat "$tools/installed" 2>/dev/null)" != "$stamp" ]; then
  uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  echo "site: installing the packages of scripts/site/requirements.lock" >&2
  "$uv" venv -q --clear --python .venv/bin/python "$tools"
  "$uv" pip sync -q --python "$tools/bin/python" --require-hashes scripts/site/requirements.lock
  purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
  .venv/bin/python -c "$purelib" >"$("$tools/bin/python" -c "$purelib")/lakescore.pth"
  echo "$stamp" >"$tools/installed"
fi
