"""Interpreters: the Pythons of this machine, of which environments are made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakescore.environments.errors import PythonMissing, PythonUnsupported
from lakescore.environments.installer import run_uv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
"""The minor versions for which environments are made; that of this process is one too."""
_VARIABLE = "LAKESCORE_PYTHONS"
_PROGRAM = re.compile(r"python3(\.\d+)?")
_QUESTION = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "version": platform.python_version(),
    "minor": "%d.%d" % sys.version_info[:2],
    "platform": "%s %s" % (sysconfig.get_config_var("SOABI"), platform.machine()),
    "library": sysconfig.get_path("stdlib"),
}))
"""
_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """An installed Python, outside of any virtual environment."""

    executable: str
    """Its absolute path, without symbolic links."""
    version: str
    """Such as `3.12.1`."""
    minor: str
    """Such as `3.12`."""
    platform: str
    """The binary interface and the machine for which its packages are built."""
    library: str
    """The folder of its standard library."""


def find_interpreter(uri: str, python: str, pythons: Sequence[str] = ()) -> Interpreter:
    """Return the interpreter for a version that needs *python*.

    The full version is preferred; any of the same minor version is enough. The interpreters that
    *pythons* and `LAKESCORE_PYTHONS` name come first, then that of this process, then those that
    uv finds. Nothing is downloaded.

    Args:
        uri: the pinned URI of the version, for errors.
        python: such as `3.12.1` or `3.12`.
        pythons: executables, or folders that have some, such as `/opt/pythons`.

    Raises:
        PythonUnsupported: no environments are made for this minor version.
        PythonMissing: there is no such interpreter here.
    """
    minor = ".".join(python.split(".")[:2])
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    supported = sorted({*SUPPORTED, own})
    if minor not in supported:
        raise PythonUnsupported(uri, minor, supported)
    near = [i for i in _named(pythons, minor) if i.minor == minor]
    if minor == own and (this := ask(sys.executable)) is not None:
        near.append(this)
    if not near:
        near = [i for i in _found_by_uv(minor) if i.minor == minor]
    for interpreter in near:
        if interpreter.version == python:
            return interpreter
    if not near:
        raise PythonMissing(uri, minor, _here(pythons))
    return near[0]


def ask(executable: str | Path) -> Interpreter | None:
    """Return the interpreter that *executable* starts; None if it starts none."""
    try:
        done = subprocess.run(  # noqa: S603 - a path that the owner of this machine named
            [executable, "-I", "-S", "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        return Interpreter(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def _named(pythons: Sequence[str], minor: str = "") -> list[Interpreter]:
    """Return the interpreters that a place or the environment of this process names."""
    variable = os.environ.get(_VARIABLE, "").split(os.pathsep)
    places = [Path(name) for name in [*pythons, *variable] if name]
    paths = [path for place in places for path in _programs(place, minor)]
    asked = [ask(path) for path in dict.fromkeys(paths)]
    return [interpreter for interpreter in asked if interpreter is not None]


def _programs(place: Path, minor: str) -> Iterator[Path]:
    """Yield the Pythons at *place*: itself, that in it, in its `bin`, and one level below.

    Those whose names say another minor version are left out.
    """
    if place.is_file():
        yield place
        return
    for folder in (place, place / "bin", *sorted(place.glob("*/bin"))):
        names = {path.name for path in folder.glob("python3*") if _PROGRAM.fullmatch(path.name)}
        exact = f"python{minor}"
        if minor and any("." in name for name in names):
            names &= {exact}
        if names:
            yield folder / max(names, key=len)


def _found_by_uv(minor: str = "") -> list[Interpreter]:
    words = [
        "python",
        "list",
        "--only-installed",
        "--output-format",
        "json",
        *filter(None, [minor]),
    ]
    done = run_uv(words)
    try:
        listed: list[dict[str, Any]] = json.loads(done.output or "[]")
    except ValueError:
        return []
    asked = [ask(entry["path"]) for entry in listed if entry.get("path")]
    return [interpreter for interpreter in asked if interpreter is not None]


def _here(pythons: Sequence[str]) -> list[str]:
    """Return the versions of all interpreters that are here."""
    this = ask(sys.executable)
    known = [*_named(pythons), *([this] if this else []), *_found_by_uv()]
    versions = {interpreter.version: None for interpreter in known}
    return sorted(versions, key=lambda version: [*map(int, re.findall(r"\d+", version))])
