#!/usr/bin/env bash
# Set up, then check lint, formatting, types, import contracts and the JavaScript of the pages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
scripts/javascript.sh
