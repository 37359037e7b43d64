#!/usr/bin/env bash
# Write the files for a cluster to dist/: the wheel, the same as .zip for --py-files, and an archive
# for spark.archives with the packages of requirements.lock that jobs and models need. With --code it
# writes no archive.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
say() { echo "package: $*" >&2; }
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv

rm -rf dist/lakescore-*
.venv/bin/python -m hatchling build -t wheel -d dist >/dev/null 2>&1
wheel=(dist/lakescore-*.whl)
# Executors import from .zip, .egg and .jar. A .whl is not found, and Spark shows no error.
cp "${wheel[0]}" "${wheel[0]%-py3-none-any.whl}.zip"
say "$(ls dist/lakescore-*)"
[ "${1:-}" != --code ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$uv" venv -q --relocatable --python .venv/bin/python "$work/environment"
install() {
  # Compile once here: otherwise each executor compiles the packages after it unpacks the archive.
  "$uv" pip install -q --python "$work/environment/bin/python" --compile-bytecode \
    --constraint requirements.lock "$@"
}
install --requirement pyproject.toml
install --no-deps delta-spark # without PySpark, which a cluster has already
tar -C "$work/environment" -c . | gzip -1 >"$work/environment.tar.gz"
mv "$work/environment.tar.gz" dist/
python=$(readlink -f "$work/environment/bin/python")
say "dist/environment.tar.gz, $(du -h dist/environment.tar.gz | cut -f1), for machines that have $python"
