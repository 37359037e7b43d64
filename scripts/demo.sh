#!/usr/bin/env bash
# The main job on real flights: make models, score December day by day, compare the versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
export LAKESCORE_HOME=${LAKESCORE_HOME:-$PWD/.lakescore}
receipts=$LAKESCORE_HOME/receipts

.venv/bin/python scripts/demo.py prepare
echo '$ ./spark-submit.sh score conf/score.yaml'
./spark-submit.sh score conf/score.yaml receipt="$receipts/score.json" | cut -c1-160
echo '$ ./spark-submit.sh compare conf/compare.yaml'
./spark-submit.sh compare conf/compare.yaml receipt="$receipts/compare.json" | cut -c1-160
.venv/bin/python scripts/demo.py show "$receipts/score.json" "$receipts/compare.json"
