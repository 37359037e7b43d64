#!/usr/bin/env bash
# Submit a job. PLACE selects Spark's properties: conf/spark/PLACE.conf, or a path with a / in it.
# DRY_RUN=1 only prints the command.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fail() { echo "error: $*" >&2; exit 2; }
jobs() { local names=("$root"/jobs/*.py); names=("${names[@]##*/}"); echo "${names[@]%.py}"; }
places() { local names=("$root"/conf/spark/*.conf); names=("${names[@]##*/}"); echo "${names[@]%.conf}"; }

hear() { # run a command, without the messages that each JVM prints at its start and no flag stops
  [ ! -t 2 ] || export LAKESCORE_TERMINAL=1
  # A signal to the whole process group must not end grep, which prints the last lines of the job.
  exec "$@" 2> >(trap '' INT TERM; exec grep --line-buffered -vE "Using incubator modules|Setting default log level to|To adjust logging level use" >&2)
}

usage="usage: [PLACE=local] [DRY_RUN=1] ./spark-submit.sh JOB conf/JOB.yaml [KEY=VALUE ...] [-v]
jobs: $(jobs); places: $(places)"
[ $# -gt 0 ] || fail "JOB is missing; $usage"
job=$1; shift
[ "$job" != --help ] || { echo "$usage"; exit; }
bin=$root/.venv/bin; [ -x "$bin/python" ] || bin=${VIRTUAL_ENV:-/usr}/bin
[[ $job != *[/[:space:]]* && -f $root/jobs/$job.py ]] || exec "$bin/lakescore" check "$job" - # it suggests a job
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
    --log=*) ;; # the job refuses other values
    --help) exec "$PYSPARK_PYTHON" "$root/jobs/$job.py" --help ;;
    -v | --verbose) log4j+=" -Dlakescore.log.level=info -Dlakescore.log.tasks=info" ;;
    *) plain+=("$word") ;;
  esac
done

# In local mode the job starts Spark itself, and only if it needs Spark. With a Spark Connect server
# the job is the client, which spark-submit cannot be.
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
    [ -f "${lineage[0]}" ] || fail "$place uses OpenLineage, but its jar is missing; fetch it:" \
      "$bin/python $root/scripts/fetch_jars.py $root/conf/spark/openlineage.lock"
    jars+=("${lineage[@]}")
    # On a cluster the listener starts before Spark can tell it the name.
    submit+=(--conf "spark.openlineage.appName=lakescore_$job")
  fi
  [ ! -f "${jars[0]}" ] || submit+=(--jars "$(IFS=,; echo "${jars[*]}")")
fi
# The S3 client is large: on the class path of the driver it is not copied for each run.
s3=("${bin%/bin}"/share/lakescore/s3/*.jar)
if [ -f "${s3[0]}" ] && grep -qE '^spark\.hadoop\.fs\.s3a\.' "$place" &&
  ! grep -qE '^spark\.(driver\.extraClassPath|jars\.packages)[[:space:]=]' "$place"; then
  submit+=(--driver-class-path "$(IFS=:; echo "${s3[*]}")")
fi
# If a place names the Python of the executors, Spark would use it for the driver too.
if grep -qE '^spark\.pyspark\.python[[:space:]=]' "$place" &&
  ! grep -qE '^spark\.(pyspark\.driver\.python|submit\.deployMode[[:space:]=]+cluster)' "$place"; then
  submit+=(--conf "spark.pyspark.driver.python=$PYSPARK_PYTHON")
fi
java=-Dlog4j2.configurationFile=file:$root/conf/spark/$layout$log4j
# Java ignores an archive of another Java or of other jars, without a message. A path with a space
# would become two words.
classes=${bin%/bin}/share/lakescore/classes.jsa
[[ ! -f $classes || $classes = *" "* ]] || java+=" -XX:SharedArchiveFile=$classes -Xlog:disable -Xlog:all=error:stderr"
submit+=(--conf "spark.driver.defaultJavaOptions=$java" "$root/jobs/$job.py" "$@")
[ -z "${DRY_RUN:-}" ] || { printf '%q ' "${submit[@]}"; echo; exit; }
hear "${submit[@]}"
