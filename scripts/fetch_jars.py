"""Fetch the jars of a lock file into this environment, once, and check their digests.

conf/spark/jars.lock when none is named; those of conf/spark/NAME.lock go to a folder NAME.
Spark's own resolver does the fetching, so a mirror configured for it (`spark.jars.ivySettings`)
is used here too. Their dependencies come with Spark and are left out.
"""

import fnmatch
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parents[1] / "conf" / "spark" / "jars.lock"
SHARE = Path(sys.prefix) / "share" / "lakescore"
PROVIDED = ("com.*", "org.*", "io.unitycatalog", "io.airlift", "javax.*", "commons*")


def main(lock: Path) -> None:
    """Fetch what is missing; end with one line where a digest differs."""
    folder_of_jars = SHARE / lock.stem
    lines = [line.split() for line in lock.read_text().splitlines() if not line.startswith("#")]
    wanted = {coordinate: digest for coordinate, digest in lines}  # noqa: C416 - pairs, checked
    if all(_digest(folder_of_jars / _name(each)) == digest for each, digest in wanted.items()):
        return
    folder_of_jars.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SHARE) as folder:
        fetched = _fetch(list(wanted), Path(folder))
        for coordinate, digest in wanted.items():
            found = _digest(fetched / _name(coordinate))
            if found != digest:
                sys.exit(f"error: {coordinate} has SHA-256 {found}, not {digest} as in {lock}")
        for coordinate in wanted:
            shutil.move(fetched / _name(coordinate), folder_of_jars / _name(coordinate))


def _fetch(coordinates: list[str], folder: Path) -> Path:
    import pyspark  # noqa: PLC0415 - a second of import that a set-up done before need not pay

    nothing = folder / "nothing.py"
    nothing.touch()
    groups = [each.split(":")[0] for each in coordinates]
    # Ivy would leave out what is asked for, too.
    provided = [each for each in PROVIDED if not fnmatch.filter(groups, each)]
    done = subprocess.run(  # noqa: S603 - Spark's own command, our own arguments
        [
            str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
            *("--conf", f"spark.jars.ivy={folder}"),
            *("--packages", ",".join(coordinates)),
            *("--exclude-packages", ",".join(f"{group}:*" for group in provided)),
            str(nothing),
        ],
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        sys.exit(f"error: the jars could not be fetched from Maven: {last}")
    return folder / "jars"


def _name(coordinate: str) -> str:
    group, artifact, version = coordinate.split(":")
    return f"{group}_{artifact}-{version}.jar"


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else LOCK)
