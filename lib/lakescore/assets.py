"""Assets: the files that come with the package: the jobs, and the configuration beside them.

A wheel has them in the folder `project` of the package; a checkout has them at its top level.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path


@cache
def folder() -> Path:
    """Return the folder that holds `jobs/` and `conf/`."""
    package = Path(__file__).resolve().parent
    installed = package / "project"
    return installed if installed.is_dir() else package.parents[1]


def templates() -> Path:
    """Return the folder with the files of a new project."""
    return Path(__file__).resolve().parent / "templates" / "project"


def job_files() -> dict[str, Path]:
    """Return the files of the jobs, by name."""
    return {path.stem: path for path in sorted((folder() / "jobs").glob("*.py"))}


def log_layout(*, is_json: bool) -> Path:
    """Return the settings of the log of a JVM, as text or as JSON documents."""
    name = "log4j2-json.properties" if is_json else "log4j2.properties"
    return folder() / "conf" / "spark" / name


def jars(kind: str) -> list[Path]:
    """Return the jars of a *kind* that the set-up fetched: `jars` (Delta's), `s3`, or others."""
    return sorted(jars_folder(kind).glob("*.jar"))


def jars_folder(kind: str) -> Path:
    """Return the folder of this environment for the jars of a *kind*."""
    return Path(sys.prefix) / "share" / "lakescore" / kind


def class_archive() -> Path:
    """Return the file with the classes that JVMs of this environment share."""
    return jars_folder("classes.jsa")
