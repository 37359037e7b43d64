#!/usr/bin/env bash
# Install the libraries of the models that tests/spark logs. Does nothing where it is done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What scripts/setup.sh installs takes everything else away, so its stamp is part of this one.
stamp=$(cat .venv/lakescore-setup tests/flavours.lock | cksum)
if [ "$(cat .venv/lakescore-flavours 2>/dev/null)" != "$stamp" ]; then
  uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  echo "flavours: installing the packages of tests/flavours.lock" >&2
  "$uv" pip install -q --python .venv/bin/python --require-hashes --compile-bytecode \
    -r tests/flavours.lock
  echo "$stamp" >.venv/lakescore-flavours
fi
