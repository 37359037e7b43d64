#!/usr/bin/env bash
# `release.sh VERSION` makes a release in dist/VERSION: it commits the version, tags it, and needs no
# secrets. `release.sh --check` builds and checks what is here, and keeps nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
scripts/tools.sh release
exec .venv/bin/python scripts/release.py "$@"
