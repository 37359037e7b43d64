"""Packing: an environment with its interpreter as one archive, which runs in any folder.

A machine that unpacks it needs no Python, but the same kind of processor and a C library that is
not older. Executors of a cluster have no more than that.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lakescore.environments.errors import ArchiveNotWritten
from lakescore.environments.interpreters import ask
from lakescore.environments.keeping import FACTS
from lakescore.environments.making import LOCK, PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakescore.environments.interpreters import Interpreter
    from lakescore.environments.making import Environment

_LEFT_OUT = re.compile(
    r"__pycache__|site-packages|dist-packages|config-.*|tests?|idlelib|lib2to3|tkinter|turtledemo"
    r"|ensurepip|pydoc_data|.*\.a"
    r"|(_tkinter|_curses|_curses_panel|readline|nis|_dbm|_gdbm|_test\w*|_xx\w*|xx\w*)\..*so"
)
"""What no model needs of Python's own library, with what would bring libraries of a screen."""
_OF_THE_SYSTEM = re.compile(
    r"(ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|nsl|anl|gcc_s|stdc\+\+))\.so.*"
)
"""The libraries that each machine has its own of: those of C and C++."""
_LIBRARY = re.compile(r"^\s*(\S+) => (/\S+) ", re.MULTILINE)
_START = """#!/bin/sh
# Start the Python beside this file with the libraries that came with it.
here=${{0%/*}}
LD_LIBRARY_PATH="$here/../lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}" exec "$here/{program}" "$@"
"""
_LEVEL = 1
"""The level of compression: 6 takes three times as long for a tenth fewer bytes."""


def packed(environment: Environment) -> Path:
    """Return the archive of *environment*, which is packed once on a machine.

    Raises:
        ArchiveNotWritten: as `pack`.
    """
    path = environment.folder / f"{environment.folder.name}.tar.gz"
    if not path.is_file():
        pack(environment, path)
    return path


def pack(environment: Environment, path: Path) -> None:
    """Write *environment* with its interpreter as a `.tar.gz` at *path*, completely or not at all.

    Raises:
        ArchiveNotWritten: the file cannot be written, or the interpreter cannot be packed.
    """
    facts = json.loads((environment.folder / FACTS).read_text(encoding="utf-8"))
    interpreter = ask(facts["python"])
    if interpreter is None or not sys.platform.startswith("linux"):
        reason = f"{facts['python']} can be packed on Linux alone"
        raise ArchiveNotWritten(path, reason if interpreter else f"{facts['python']} does not run")
    try:
        with _replaced(path) as unfinished, _archive(unfinished) as archive:
            text = json.dumps({**facts, "python": "python/bin/python3"}, indent=2)
            _add_text(archive, FACTS, text)
            archive.add(environment.folder / LOCK, LOCK, filter=_nobody)
            for file in _files(environment.folder / PACKAGES, re.compile("__pycache__|\\.lock")):
                relative = file.relative_to(environment.folder)
                archive.add(file, relative.as_posix(), filter=_nobody)
            _add_interpreter(archive, interpreter)
    except OSError as error:
        raise ArchiveNotWritten(path, error.strerror or str(error)) from error


def _add_interpreter(archive: tarfile.TarFile, interpreter: Interpreter) -> None:
    program = f"python{interpreter.minor}"
    _add_text(archive, "python/bin/python3", _START.format(program=program), mode=0o755)
    binary = Path(interpreter.executable)
    archive.add(binary, f"python/bin/{program}", filter=_nobody)
    library, built = Path(interpreter.library), [binary]
    for file in _files(library, _LEFT_OUT):
        name = f"python/lib/{program}/{file.relative_to(library).as_posix()}"
        archive.add(file.resolve(), name, filter=_nobody)
        if file.parent.name == "lib-dynload":
            built.append(file)
    for name, file in sorted(_libraries(built).items()):
        archive.add(file.resolve(), f"python/lib/{name}", filter=_nobody)


def _libraries(built: Iterable[Path]) -> dict[str, Path]:
    """Return the shared libraries, by name, that the built files load."""
    done = subprocess.run(  # noqa: S603 - files of the interpreter
        ["ldd", *map(str, built)],  # noqa: S607 - the system's own
        capture_output=True,
        text=True,
        check=False,
    )
    found = _LIBRARY.findall(done.stdout)
    return {name: Path(path) for name, path in found if not _OF_THE_SYSTEM.fullmatch(name)}


def _files(folder: Path, left_out: re.Pattern[str]) -> Iterator[Path]:
    """Yield the files below *folder* in one order, except for those with names to leave out."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not left_out.fullmatch(name))
        for name in sorted(names):
            path = Path(place, name)
            if not left_out.fullmatch(name) and path.is_file():  # a broken link is no file
                yield path


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield a file beside *path* that takes its place if the body succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Yield an archive whose bytes depend on nothing but the files."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", dereference=True) as archive,
    ):
        yield archive


def _add_text(archive: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return *member* without its owner on this machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
