#!/usr/bin/env bash
# Run tests with other versions of Python, Spark, Delta and MLflow, each in its own environment under
# .matrix/, and print the results. `matrix.sh spark python-3.13` runs only the lines whose names begin
# with these words; TESTS='tests/unit tests/spark' selects the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# name          python  pyspark  delta-spark  mlflow  jars
LINES='
python-3.12     3.12    4.2.0    4.4.0        3.17.2  conf/spark/jars.lock
python-3.13     3.13    4.2.0    4.4.0        3.17.2  conf/spark/jars.lock
spark-4.1       3.11    4.1.4    4.4.0        3.17.2  scripts/matrix/spark-4.1.lock
spark-4.0       3.11    4.0.5    4.4.0        3.17.2  scripts/matrix/spark-4.0.lock
spark-3.5       3.11    3.5.9    3.3.2        3.17.2  scripts/matrix/spark-3.5.lock
mlflow-oldest   3.11    4.2.0    4.4.0        3.17.0  conf/spark/jars.lock
oldest          3.11    4.2.0    4.4.0        3.17.0  conf/spark/jars.lock
'
OWN=tests/unit/test_layout.py::test_the_jars_are_those_of_the_installed_delta # of the lock file
TESTS=${TESTS:-tests/unit tests/spark tests/registry}

make() { # takes the words of one line of LINES
  local home=.matrix/$1
  if [ "$1" = oldest ]; then # of all packages that users install, the oldest that pyproject.toml allows
    .venv/bin/uv pip compile -q --resolution lowest-direct --python-version "$2" --no-header --no-annotate \
      --extra spark --extra connect --extra s3 --extra azure --extra gcs --extra notebook \
      pyproject.toml >"$home/others.txt"
  else # all others keep the versions of requirements.lock, so that each line tests one change
    sed -n 's/^\([a-z0-9][^ ]*==[^\\]*\).*/\1/p' requirements.lock |
      grep -vE '^(pyspark|py4j|delta-spark|mlflow(-skinny|-tracing)?|importlib-metadata)==' >"$home/others.txt"
  fi
  cp "$6" "$home/jars.lock"
  [ -x "$home/.venv/bin/python" ] ||
    .venv/bin/uv venv -q --no-python-downloads --python "$2" "$home/.venv" &&
    .venv/bin/uv pip install -q --python "$home/.venv/bin/python" --constraint "$home/others.txt" \
      -e '.[demo,dev]' --group flavours "pyspark==$3" "delta-spark==$4" "mlflow==$5" &&
    "$home/.venv/bin/lakescore" setup "$home/jars.lock"
}

run() { # takes the words of one line of LINES
  local name=$1 log=.matrix/$1/log.txt
  mkdir -p ".matrix/$name"
  if ! make "$@" >"$log" 2>&1; then
    printf '%-14s  not installed: %s\n' "$name" "$(tail -n 1 "$log")"
    return 1
  fi
  # shellcheck disable=SC2086 # TESTS is a list of words
  ".matrix/$name/.venv/bin/python" -m pytest -q --deselect "$OWN" $TESTS >"$log" 2>&1 || true
  printf '%-14s  %s\n' "$name" "$(tail -n 1 "$log")"
  tail -n 1 "$log" | grep -q ' passed' && ! tail -n 1 "$log" | grep -qE 'failed|error'
}

scripts/setup.sh
bad=0
while read -r -a line; do
  [ ${#line[@]} -gt 0 ] || continue
  for prefix in "${@:-}"; do
    [[ ${line[0]} != "$prefix"* ]] || { run "${line[@]}" </dev/null || bad=1; break; }
  done
done <<<"$LINES"
exit $bad
