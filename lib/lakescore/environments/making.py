"""Making: the environment of a version is made once on a machine, kept, and checked at each use."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakescore.environments.errors import (
    DiskFull,
    EnvironmentChanged,
    EnvironmentNotMade,
    WheelsDiffer,
    WheelsMissing,
)
from lakescore.environments.installer import run_uv
from lakescore.environments.interpreters import find_interpreter
from lakescore.environments.keeping import (
    FACTS,
    environments_folder,
    find_bound,
    is_kept,
    part_of,
    remove_unused,
    use,
)
from lakescore.environments.locking import FULL, explain, find_failure, kept_lock, lock
from lakescore.environments.needs import read_needs
from lakescore.environments.sealing import find_change, installed, seal
from lakescore.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lakescore.environments.installer import Done
    from lakescore.environments.interpreters import Interpreter
    from lakescore.environments.locking import Lock
    from lakescore.trust import Environments

    Progress = Callable[[str, int, int], None]
    """Takes what is being done, and the steps done and in all."""

PACKAGES = "packages"
"""The folder of an environment that has its packages."""
LOCK = "lock.txt"
_INSTALL = (
    "pip", "install", "--require-hashes", "--only-binary=:all:", "--no-deps", "--no-progress",
    "--link-mode=copy",
)  # fmt: skip
"""Copies: a file that changes in an environment changes in no other, nor in uv's cache."""
_MISMATCH = re.compile("hash mismatch", re.IGNORECASE)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The packages of a version, with the interpreter that they are for."""

    digest: str
    """`sha256:<hex>` of the lock, the minor version of Python and the platform."""
    folder: Path
    """Has `packages`, `environment.json` and `lock.txt`."""
    python: str
    """The version of the interpreter, such as `3.12.1`."""
    packages: Mapping[str, str]
    """The versions of the installed packages by name."""
    size: int
    """The bytes of the installed packages."""

    def facts(self) -> dict[str, Any]:
        """Return the environment as plain JSON."""
        return {**asdict(self), "folder": str(self.folder), "packages": dict(self.packages)}


def own_environment(  # noqa: PLR0913 - each is a separate fact
    uri: str,
    artifacts: Path,
    settings: Mapping[str, Any],
    *,
    allowed: Environments | None,
    indexes: Sequence[str] | None = None,
    pythons: Sequence[str] = (),
    progress: Progress | None = None,
) -> Environment:
    """Return the environment that a version asks for; lock and make it if that was not done yet.

    This process uses the environment until it ends, and nothing removes it until then.

    Args:
        uri: the pinned URI of the version, for errors.
        artifacts: the folder of its artifacts.
        settings: its `python_function` flavour.
        allowed: the trust policy's rule for environments; None if there is no policy.
        indexes: the indexes that the trust policy allows; None allows all.
        pythons: where interpreters are, beside those that `LAKESCORE_PYTHONS` names.
        progress: is called at each step.

    Raises:
        NotTrusted, RequirementRefused, NeedsUnknown: as `read_needs`.
        PythonUnsupported, PythonMissing: as `find_interpreter`.
        WheelsMissing, PackagesOffline, IndexUnavailable: as `lock`.
        WheelsDiffer: the index has other files than those of the lock.
        DiskFull, EnvironmentNotMade: the machine lets no files be written.
        EnvironmentChanged: the files of the kept environment are not those that were installed.
    """
    show = progress or _show_nothing
    needs = read_needs(uri, artifacts, settings, allowed=allowed)
    with _one_at_a_time, _explained(uri):
        interpreter = find_interpreter(uri, needs.python, pythons)
        locked = kept_lock(uri, needs, interpreter, indexes=indexes)
        if locked is None:
            show("locks the packages", 0, 1)
            locked = lock(uri, needs, interpreter, indexes=indexes)
        return make(uri, locked, interpreter, show)


def kept_environment(  # noqa: PLR0913 - each is a separate fact
    uri: str,
    artifacts: Path,
    settings: Mapping[str, Any],
    *,
    allowed: Environments | None,
    indexes: Sequence[str] | None = None,
    pythons: Sequence[str] = (),
) -> Environment | None:
    """Return the environment of a version if it is made already; nothing is fetched or made.

    Raises: as `own_environment`.
    """
    needs = read_needs(uri, artifacts, settings, allowed=allowed)
    with _one_at_a_time, _explained(uri):
        interpreter = find_interpreter(uri, needs.python, pythons)
        locked = kept_lock(uri, needs, interpreter, indexes=indexes)
        if locked is None or not is_kept(folder_of(locked)):
            return None
        return make(uri, locked, interpreter, _show_nothing)


def folder_of(locked: Lock) -> Path:
    """Return the folder of the environment of a lock, whether or not it exists."""
    return environments_folder() / locked.digest.removeprefix("sha256:")[:32]


def make(uri: str, locked: Lock, interpreter: Interpreter, show: Progress) -> Environment:
    """Return the environment of a lock; make it if it is not there."""
    folder, total = folder_of(locked), len(locked.packages) + 2
    most = find_bound()
    made = []

    def build(held: int) -> None:
        _build(uri, locked, interpreter, held, show)
        made.append(folder)

    use(folder, build, lambda: show("waits for the run that makes the environment", 0, total))
    if made:
        with contextlib.suppress(OSError):  # what another user made
            remove_unused(most)
    return _open(uri, locked, folder, interpreter)


def _build(uri: str, locked: Lock, interpreter: Interpreter, held: int, show: Progress) -> None:
    """Make the environment beside its place, and move it there when it is complete."""
    folder = folder_of(locked)
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir(parents=True)
        (part / LOCK).write_text(locked.text, encoding="utf-8")
        done = _install(locked, interpreter, part, held, show)
        if done.code:
            raise _failure(uri, interpreter, done)
        total = len(locked.packages) + 2
        show("checks the files", total - 1, total)
        facts = _check_installed(uri, locked, part / PACKAGES)
        facts |= {"python": interpreter.executable, "version": interpreter.version}
        _write_facts(part, {**facts, "digest": locked.digest, "until": locked.until})
        shutil.rmtree(folder, ignore_errors=True)  # what someone deleted a part of
        part.replace(folder)
        show("is complete", total, total)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _install(locked: Lock, interpreter: Interpreter, part: Path, held: int, show: Progress) -> Done:
    names, total = [*locked.packages], len(locked.packages) + 2
    shown = f"installs {counted(len(names), 'package')} for Python {interpreter.minor}"
    ready: set[str] = set()

    def follow(line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "Downloading":
            show(f"fetches {rest}", len(ready), total)
        elif word == "Downloaded":
            ready.add(rest)
        elif word == "Prepared":
            show(shown, total - 2, total)

    show(shown, 0, total)
    places = [f"--target={part / PACKAGES}", f"--requirements={part / LOCK}"]
    python = f"--python={interpreter.executable}"
    return run_uv([*_INSTALL, python, *places], show=follow, held=[held])


def _failure(uri: str, interpreter: Interpreter, done: Done) -> Exception:
    if _MISMATCH.search(done.messages):
        return WheelsDiffer(uri, explain(done))
    return find_failure(uri, done) or WheelsMissing(uri, interpreter.minor, explain(done))


def _check_installed(uri: str, locked: Lock, packages: Path) -> dict[str, Any]:
    """Return the facts of installed packages that are exactly those of the lock."""
    found = installed(packages)
    if found != locked.packages:
        differing = dict(set(found.items()) ^ set(locked.packages.items()))
        raise EnvironmentNotMade(uri, packages.parent, f"uv installed others: {differing}")
    if change := find_change(packages):
        raise EnvironmentNotMade(
            uri, packages.parent, f"{change}; clean the cache of uv (uv cache clean)"
        )
    return {"packages": found, **asdict(seal(packages))}


def _open(uri: str, locked: Lock, folder: Path, interpreter: Interpreter) -> Environment:
    """Return the kept environment in *folder*, if its files are those that were installed."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        now = seal(folder / PACKAGES)
        if (now.records, locked.digest) != (facts["records"], facts["digest"]):
            raise EnvironmentChanged(uri, folder, "a package lists other files")
        changed = dict(facts)
        if now.quick != facts["quick"]:  # a copied or restored folder has other times
            if change := find_change(folder / PACKAGES):
                raise EnvironmentChanged(uri, folder, change)
            changed["quick"] = now.quick
        if not os.access(facts["python"], os.X_OK):
            changed |= {"python": interpreter.executable, "version": interpreter.version}
        if changed != facts:
            _write_facts(folder, changed)
    except (ValueError, KeyError) as error:
        raise EnvironmentChanged(uri, folder, f"{FACTS} cannot be read: {error}") from None
    return Environment(
        digest=locked.digest,
        folder=folder,
        python=changed["version"],
        packages=changed["packages"],
        size=changed["size"],
    )


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    unfinished = folder / f".{FACTS}.{os.getpid()}"
    unfinished.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    unfinished.replace(folder / FACTS)


def _show_nothing(text: str, done: int, total: int) -> None:
    """Take what `Progress` takes."""


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn errors of the system in the body into errors of one line."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(uri, environments_folder()) from error
        raise EnvironmentNotMade(uri, environments_folder(), str(error)) from error
