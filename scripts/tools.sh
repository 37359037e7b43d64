#!/usr/bin/env bash
# `tools.sh NAME` installs the packages of scripts/NAME/requirements.lock in an environment of their own:
# what scripts/release.sh or scripts/site.sh runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock=scripts/$1/requirements.lock
tools=.venv/share/lakescore/$1
stamp=$(cksum "$lock")
if [ "$(cat "$tools/installed" 2>/dev/null)" != "$stamp" ]; then
  uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  echo "$1: installing the packages of $lock" >&2
  "$uv" venv -q --clear --python .venv/bin/python "$tools"
  "$uv" pip sync -q --python "$tools/bin/python" --require-hashes "$lock"
  if [ "$1" = site ]; then # the API reference imports lakescore, which needs the packages of .venv
    purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
    .venv/bin/python -c "$purelib" >"$("$tools/bin/python" -c "$purelib")/lakescore.pth"
  fi
  echo "$stamp" >"$tools/installed"
fi
