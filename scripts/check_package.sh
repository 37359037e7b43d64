#!/usr/bin/env bash
# Build the sdist and the wheel twice, compare the two, and check what they hold and say.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for number in 1 2; do
  # The wheel is made of the sdist, so whoever builds from the sdist gets the same wheel.
  "$uv" build -q --no-build-isolation --python .venv/bin/python --out-dir "$work/$number" . 2>/dev/null
done
for file in "$work"/1/lakescore-*; do
  cmp "$file" "$work/2/${file##*/}"
done
"$uv" tool run -q twine@7.0.0 check --strict "$work"/1/lakescore-*
"$uv" tool run -q check-wheel-contents@0.6.3 "$work"/1/*.whl
