"""Jars: the Java libraries that Spark needs, fetched once into this environment.

The lock files of the package name them with their digests. Spark's own resolver fetches them, so a
mirror that is configured for it (`spark.jars.ivySettings`) is used here too. Their dependencies
come with Spark, and are left out.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from lakescore import assets
from lakescore.errors import ConfigError, LakescoreError
from lakescore.wording import listed, nearest

DELTA = "jars"
"""The kind of the jars of Delta, which every job with Spark needs."""
_PROVIDED = ("com.*", "org.*", "io.unitycatalog", "io.airlift", "javax.*", "commons*")


class JarsNotFetched(LakescoreError):
    """Jars cannot be fetched, or are not those of the lock file."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the jars that Spark needs could not be fetched: {reason}")


def kinds() -> list[str]:
    """Return the kinds of jars: the names of their lock files."""
    return sorted(path.stem for path in _lock_folder().glob("*.lock"))


def spark_submit() -> Path:
    """Return the launcher of the installed PySpark.

    Raises:
        ConfigError: PySpark is not installed.
    """
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ConfigError("PySpark is not installed: pip install 'lakescore[spark]'")
    return Path(spec.origin).parent / "bin" / "spark-submit"


def missing(kind: str) -> list[str]:
    """Return the coordinates of the jars of a *kind* that are not here, or are other files.

    Args:
        kind: the name of a lock file of the package, or the path of another one.

    Raises:
        ConfigError: there is no such kind.
    """
    folder = assets.jars_folder(kind)
    return [
        name for name, digest in _locked(kind).items() if _digest(folder / _file(name)) != digest
    ]


def fetch(kind: str) -> None:
    """Fetch the jars of a *kind*, and check their digests.

    Raises:
        ConfigError: there is no such kind, or PySpark is not installed.
        JarsNotFetched: Spark's resolver fails, the folder cannot be written, or a digest differs.
    """
    wanted, folder = _locked(kind), assets.jars_folder(Path(kind).stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            fetched = _resolve(list(wanted), Path(scratch))
            for name, digest in wanted.items():
                if (other := _digest(fetched / _file(name))) != digest:
                    raise JarsNotFetched(f"{name} has the SHA-256 {other}, not {digest}")
            for name in wanted:
                shutil.move(fetched / _file(name), folder / _file(name))
    except OSError as error:
        raise JarsNotFetched(str(error)) from error


def _resolve(coordinates: list[str], folder: Path) -> Path:
    """Let Spark fetch the jars of *coordinates* into *folder*; return the folder with the jars."""
    nothing = folder / "nothing.py"
    nothing.touch()
    groups = [name.split(":")[0] for name in coordinates]
    # Ivy would leave out what is asked for, too.
    provided = [pattern for pattern in _PROVIDED if not fnmatch.filter(groups, pattern)]
    done = subprocess.run(  # noqa: S603 - Spark's own command, our own arguments
        [
            str(spark_submit()),
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
        raise JarsNotFetched((done.stderr.strip().splitlines() or ["no output"])[-1])
    return folder / "jars"


def _locked(kind: str) -> dict[str, str]:
    """Return the digest of each jar of a *kind*, by its coordinate."""
    path = Path(kind) if "/" in kind else _lock_folder() / f"{kind}.lock"
    if not path.is_file():
        known = f"{nearest(kind, kinds())}; there are: {listed(kinds())}"
        raise ConfigError(f"there are no jars {kind!r}{known}")
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: digest for name, digest in pairs}  # noqa: C416 - each pair is a list


def _lock_folder() -> Path:
    return assets.folder() / "conf" / "spark"


def _file(coordinate: str) -> str:
    group, artifact, version = coordinate.split(":")
    return f"{group}_{artifact}-{version}.jar"


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
