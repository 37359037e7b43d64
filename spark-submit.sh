#!/usr/bin/env bash
# Submit a job: ./spark-submit.sh JOB conf/JOB.yaml [KEY=VALUE ...] [-v]
# PLACE names Spark's properties (conf/spark/PLACE.conf); DRY_RUN=1 prints the command instead.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=${1:?JOB is missing; usage: ./spark-submit.sh JOB conf/JOB.yaml [KEY=VALUE ...] [-v]}; shift
bin=$root/.venv/bin; [ -x "$bin/python" ] || bin=${VIRTUAL_ENV:-/usr}/bin
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$bin/python} LAKESCORE_HOME=${LAKESCORE_HOME:-$root/.lakescore}
place=$root/conf/spark/${PLACE:-local}.conf log= plain=()
for word in "$@"; do
  case $word in
    --help) exec "$PYSPARK_PYTHON" "$root/jobs/$job.py" --help ;;
    -v | --verbose) log=" -Dlakescore.log.level=info -Dlakescore.log.tasks=info" ;;
    *) plain+=("$word") ;;
  esac
done
"$bin/lakescore" check "$job" ${plain[@]+"${plain[@]}"}
[ -f "$place" ] || { echo "error: there is no place '${PLACE:-local}': no $place" >&2; exit 2; }

submit=("${SPARK_HOME:+$SPARK_HOME/bin/}${SPARK_HOME:-$bin/}spark-submit" --properties-file "$place")
jars=$(printf '%s,' "${bin%/bin}"/share/lakescore/jars/*.jar)
grep -qE '^spark\.jars(\.packages)?[[:space:]=]' "$place" || submit+=(--jars "${jars%,}")
log4j=-Dlog4j2.configurationFile=file:$root/conf/spark/log4j2.properties
submit+=(--conf "spark.driver.defaultJavaOptions=$log4j$log" "$root/jobs/$job.py" "$@")
[ -z "${DRY_RUN:-}" ] || { printf '%q ' "${submit[@]}"; echo; exit; }
[ ! -t 2 ] || export LAKESCORE_TERMINAL=1
# The JVM says this of itself on every start, and no flag stops it.
exec "${submit[@]}" 2> >(grep --line-buffered -v "Using incubator modules" >&2)
