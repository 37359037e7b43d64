"""Places where jobs run: a place is a file of Spark's properties."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lakescore import assets
from lakescore.errors import ConfigError
from lakescore.wording import listed, nearest

LOCAL = "local"
"""The place of jobs that run on this machine."""


def current() -> str:
    """Return the place that the environment names: the name of a place, or the path of a file."""
    return os.environ.get("PLACE") or LOCAL


def place_file(place: str) -> Path:
    """Return the file of properties of a *place*: a name, or a path with a `/` in it.

    The files `conf/spark/NAME.conf` of the current folder come before those of the package.

    Raises:
        ConfigError: there is no such place.
    """
    if "/" in place:
        path = Path(place)
        if not path.is_file():
            raise ConfigError(f"there is no place {place!r}: the file does not exist")
        return path
    known = place_files()
    if place not in known:
        names = listed(sorted(known))
        raise ConfigError(f"there is no place {place!r}{nearest(place, known)}; places: {names}")
    return known[place]


def place_files() -> dict[str, Path]:
    """Return the files of properties of all places that have a name."""
    folders = (assets.folder(), Path().absolute())
    return {p.stem: p for folder in folders for p in (folder / "conf" / "spark").glob("*.conf")}


def read_properties(path: Path) -> dict[str, str]:
    """Read a file in Spark's properties format: `key value`, `#` comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (re.split(r"[\s=]+", line, maxsplit=1) for line in lines if line and line[0] != "#")
    return {key: value for key, value in pairs}  # noqa: C416 - each pair is a list
