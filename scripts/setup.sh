#!/usr/bin/env bash
# Create .venv from the lock file, with Java and the Delta jars, if that is not done yet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 1; }
say() { echo "setup: $*" >&2; }

java_is_there() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
  [ "$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')" -ge 17 ] 2>/dev/null
}

install_java() {
  local how="Spark needs Java 17 or newer: install a JRE or point JAVA_HOME at one"
  [ -z "${JAVA_HOME:-}" ] || fail "$how (JAVA_HOME=$JAVA_HOME has no such Java)"
  command -v apt-get >/dev/null || fail "$how"
  [ "$(id -u)" = 0 ] || fail "$how (here: sudo apt-get install default-jre-headless)"
  say "installing Java from Debian's packages"
  { apt-get update && apt-get install -y --no-install-recommends default-jre-headless; } >/dev/null 2>&1 ||
    fail "$how; apt-get install default-jre-headless failed"
  java_is_there || fail "$how; apt-get installed another version"
}

make_environment() {
  local python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "lakescore needs Python 3.11 or newer as python3 (or name another: PYTHON=python3.12)"
  rm -rf .venv
  if command -v uv >/dev/null; then
    uv venv -q --python "$python" .venv
  else
    "$python" -m venv .venv || fail "$python has no venv module (on Debian: apt-get install python3-venv)"
    sed -n '/^uv==/,/# via/p' requirements.lock >.venv/uv.lock
    .venv/bin/python -m pip install -q --require-hashes -r .venv/uv.lock
  fi
}

install_packages() {
  local uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  say "installing the packages of requirements.lock"
  # Compile once here: otherwise, if Python cannot write its cache, each new worker compiles for seconds.
  "$uv" pip sync -q --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock
  "$uv" pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
}

java_is_there || install_java
# A new Java does not accept the classes that another Java stored.
stamp=$({ cat requirements.lock pyproject.toml conf/spark/jars.lock; "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1; } | cksum)
if [ "$(cat .venv/lakescore-setup 2>/dev/null)" != "$stamp" ]; then
  [ -x .venv/bin/python ] || make_environment
  install_packages
  .venv/bin/lakescore setup --again >&2
  echo "$stamp" >.venv/lakescore-setup
fi
