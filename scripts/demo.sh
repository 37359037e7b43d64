#!/usr/bin/env bash
# Run the main jobs on real flights: create models, score December day by day, compare its days with
# those of the training, compare versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
export LAKESCORE_HOME=${LAKESCORE_HOME:-$PWD/.lakescore}
receipts=$LAKESCORE_HOME/receipts

.venv/bin/python scripts/demo.py prepare
# An earlier demo registered versions without a digest in the ledger, and wrote no trust.yaml.
trust=$LAKESCORE_HOME/trust.yaml
[[ -f $trust ]] || trust=conf/trust.yaml
echo '$ ./spark-submit.sh score conf/score.yaml trust=.../trust.yaml'
./spark-submit.sh score conf/score.yaml trust="$trust" receipt="$receipts/score.json" | cut -c1-160
echo '$ ./spark-submit.sh monitor conf/monitor.yaml trust=.../trust.yaml'
./spark-submit.sh monitor conf/monitor.yaml trust="$trust" receipt="$receipts/monitor.json" | cut -c1-160
echo '$ ./spark-submit.sh compare conf/compare.yaml trust=.../trust.yaml'
./spark-submit.sh compare conf/compare.yaml trust="$trust" receipt="$receipts/compare.json" | cut -c1-160
.venv/bin/python scripts/demo.py show "$receipts"
