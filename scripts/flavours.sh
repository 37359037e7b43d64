#!/usr/bin/env bash
# Install the libraries for the models that tests/spark logs, if they are not installed yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# scripts/setup.sh removes all packages that it does not know, so this stamp includes its stamp.
stamp=$(cat .venv/lakescore-setup tests/flavours.lock | cksum)
if [ "$(cat .venv/lakescore-flavours 2>/dev/null)" != "$stamp" ]; then
  uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  echo "flavours: installing the packages of tests/flavours.lock" >&2
  "$uv" pip install -q --python .venv/bin/python --require-hashes --compile-bytecode \
    -r tests/flavours.lock
  echo "$stamp" >.venv/lakescore-flavours
fi
