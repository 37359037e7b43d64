#!/usr/bin/env bash
# Run a job of this checkout, as `lakescore JOB` does: ./spark-submit.sh score conf/score.yaml
# PLACE selects Spark's properties: conf/spark/PLACE.conf, or a path with a / in it.
# DRY_RUN=1 only prints the command.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$root/.venv/bin; [ -x "$bin/python" ] || bin=${VIRTUAL_ENV:-/usr}/bin
export LAKESCORE_HOME=${LAKESCORE_HOME:-$root/.lakescore}
exec "$bin/python" -P -m lakescore.submitting "$@" # -P: no module of the current folder
