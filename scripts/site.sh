#!/usr/bin/env bash
# `site.sh [FOLDER]` makes the documentation site of what is here in FOLDER/VERSION, and the list of
# versions in FOLDER/index.html. FOLDER is dist/site unless you name another one.
set -euo pipefail
root=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..
"$root/scripts/setup.sh"
"$root/scripts/tools.sh" site
exec "$root/.venv/share/lakescore/site/bin/python" "$root/scripts/make_site.py" "$@"
