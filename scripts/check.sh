#!/usr/bin/env bash
# Set up, then check lint, formatting, types, import contracts, the package and the JavaScript of the pages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
scripts/check_package.sh
scripts/javascript.sh
