#!/usr/bin/env bash
# Submit a job. PLACE names Spark's properties: conf/spark/PLACE.conf, or a file with a / in its path.
# DRY_RUN=1 prints the command.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fail() { echo "error: $*" >&2; exit 2; }
jobs() { local names=("$root"/jobs/*.py); names=("${names[@]##*/}"); echo "${names[@]%.py}"; }
places() { local names=("$root"/conf/spark/*.conf); names=("${names[@]##*/}"); echo "${names[@]%.conf}"; }

hear() { # run a command without what a JVM says of itself on every start, which no flag stops
  [ ! -t 2 ] || export LAKESCORE_TERMINAL=1
  # What ends the job's whole group leaves it someone to tell its last lines to.
  exec "$@" 2> >(trap '' INT TERM; exec grep --line-buffered -vE "Using incubator modules|Setting default log level to|To adjust logging level use" >&2)
}

usage="usage: [PLACE=local] [DRY_RUN=1] ./spark-submit.sh JOB conf/JOB.yaml [KEY=VALUE ...] [-v]
jobs: $(jobs); places: $(places)"
[ $# -gt 0 ] || fail "JOB is missing; $usage"
job=$1; shift
[ "$job" != --help ] || { echo "$usage"; exit; }
bin=$root/.venv/bin; [ -x "$bin/python" ] || bin=${VIRTUAL_ENV:-/usr}/bin
[[ $job != *[/[:space:]]* && -f $root/jobs/$job.py ]] || exec "$bin/lakescore" check "$job" - # says which job is meant
place=${PLACE:-local}; [[ $place = */* ]] || place=$root/conf/spark/$place.conf
[ -f "$place" ] || fail "there is no place '${PLACE:-local}'; places: $(places)"
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$bin/python} LAKESCORE_HOME=${LAKESCORE_HOME:-$root/.lakescore}

layout=log4j2.properties log4j='' plain=() last=''
for word in "$@"; do
  [ "$last" != --log ] || word=--log=$word
  last=$word
  case $word in
    --log) ;;
    --log=json) layout=log4j2-json.properties ;;
    --log=*) ;; # the job says what it takes
    --help) exec "$PYSPARK_PYTHON" "$root/jobs/$job.py" --help ;;
    -v | --verbose) log4j+=" -Dlakescore.log.level=info -Dlakescore.log.tasks=info" ;;
    *) plain+=("$word") ;;
  esac
done

# In local mode Spark may not be needed, so the job starts it itself. And no spark-submit is a client
# of a Spark Connect server: the job is one itself.
itself=("$PYSPARK_PYTHON" "$root/jobs/$job.py" "$@")
if [[ ${PLACE:-local} = local ]]; then
  [ -z "${DRY_RUN:-}" ] || { printf '%q ' "${itself[@]}"; echo; exit; }
  hear "${itself[@]}"
fi
"$bin/lakescore" check "$job" ${plain[@]+"${plain[@]}"}
! grep -qE '^spark\.remote[[:space:]=]' "$place" || PLACE=$place exec "${itself[@]}"

spark=${SPARK_HOME:+$SPARK_HOME/bin}
submit=("${spark:-$bin}/spark-submit" --properties-file "$place")
if ! grep -qE '^spark\.jars(\.packages)?[[:space:]=]' "$place"; then
  jars=("${bin%/bin}"/share/lakescore/jars/*.jar)
  if grep -qE '^spark\.extraListeners.*openlineage' "$place"; then
    lineage=("${bin%/bin}"/share/lakescore/openlineage/*.jar)
    [ -f "${lineage[0]}" ] || fail "$place listens to OpenLineage, whose jar is missing;" \
      "$bin/python $root/scripts/fetch_jars.py $root/conf/spark/openlineage.lock fetches it"
    jars+=("${lineage[@]}")
    # On a cluster the listener starts before it can ask Spark for the name.
    submit+=(--conf "spark.openlineage.appName=lakescore_$job")
  fi
  [ ! -f "${jars[0]}" ] || submit+=(--jars "$(IFS=,; echo "${jars[*]}")")
fi
# S3's client is large: on the driver's own path of classes, it is not copied for each run.
s3=("${bin%/bin}"/share/lakescore/s3/*.jar)
if [ -f "${s3[0]}" ] && grep -qE '^spark\.hadoop\.fs\.s3a\.' "$place" &&
  ! grep -qE '^spark\.(driver\.extraClassPath|jars\.packages)[[:space:]=]' "$place"; then
  submit+=(--driver-class-path "$(IFS=:; echo "${s3[*]}")")
fi
# A place that names the executors' Python would choose the driver's too.
if grep -qE '^spark\.pyspark\.python[[:space:]=]' "$place" &&
  ! grep -qE '^spark\.(pyspark\.driver\.python|submit\.deployMode[[:space:]=]+cluster)' "$place"; then
  submit+=(--conf "spark.pyspark.driver.python=$PYSPARK_PYTHON")
fi
java=-Dlog4j2.configurationFile=file:$root/conf/spark/$layout$log4j
# Java takes no archive of another Java, or for other jars; it need not say so. Words end at spaces.
classes=${bin%/bin}/share/lakescore/classes.jsa
[[ ! -f $classes || $classes = *" "* ]] || java+=" -XX:SharedArchiveFile=$classes -Xlog:disable -Xlog:all=error:stderr"
submit+=(--conf "spark.driver.defaultJavaOptions=$java" "$root/jobs/$job.py" "$@")
[ -z "${DRY_RUN:-}" ] || { printf '%q ' "${submit[@]}"; echo; exit; }
hear "${submit[@]}"
