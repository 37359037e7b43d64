"""Locking: the requirements of a version become exact packages with the digests of their wheels.

A lock is kept, so that it is resolved once. Packages that a version names without a version are
taken as they were in the month when the model was logged, if the index knows when packages came.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lakescore.environments.errors import (
    DiskFull,
    IndexRefused,
    IndexUnavailable,
    PackagesOffline,
    RequirementRefused,
    WheelsMissing,
)
from lakescore.environments.installer import find_indexes, run_uv
from lakescore.home import home
from lakescore.trust import check_index
from lakescore.wording import listed, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.environments.installer import Done
    from lakescore.environments.interpreters import Interpreter
    from lakescore.environments.needs import Needs

_FOR_SCORING = ("cloudpickle", "numpy", "pandas", "pyarrow>=15")
"""The packages with which a worker passes rows to a model."""
_COMPILE = (
    "pip", "compile", "-", "--quiet", "--generate-hashes", "--only-binary=:all:", "--no-header",
    "--no-annotate", "--no-progress",
)  # fmt: skip
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
_LOCKED = re.compile(rf"{_PINNED.pattern} \\|    --hash=sha256:[0-9a-f]{{64}}( \\)?|")
"""The lines of a lock: a package of an index with digests, and nothing else."""
_NOT_CACHED = re.compile(r"\b([A-Za-z0-9][\w.-]*) was not found in the cache")
_FETCHED = re.compile(r"(?:Failed to (?:download|fetch)[^`\n]*`([^`]+)`)")
_CAUSE = re.compile(r"^\s*(?:cause|Caused by): (.+)$", re.MULTILINE)
_AWAY = re.compile(
    r"Failed to fetch|error sending request|tcp connect|dns error|timed out|Connection refused"
)
_LONGEST_REASON = 400
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Exact packages with digests, for one minor version of Python on one platform."""

    text: str
    """The lines of a requirements file, each package with the digests of its wheels."""
    minor: str
    platform: str
    until: str | None
    """The day before which all packages were published; None if the index does not know."""

    @property
    def digest(self) -> str:
        """The digest of the packages, the minor version and the platform."""
        content = json.dumps([self.text, self.minor, self.platform]).encode()
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    @property
    def packages(self) -> dict[str, str]:
        """The versions of the packages by their normal names."""
        return {canonicalize_name(name): at for name, at in _PINNED.findall(self.text)}


def lock(
    uri: str, needs: Needs, interpreter: Interpreter, *, indexes: Sequence[str] | None = None
) -> Lock:
    """Return the lock of a version: the kept one, or a new one, which is then kept.

    Args:
        uri: the pinned URI of the version, for errors.
        needs: what its files ask for.
        interpreter: the Python whose packages are chosen.
        indexes: the indexes that the trust policy allows; None allows all.

    Raises:
        NotTrusted: uv is set up for an index that the policy does not allow.
        RequirementRefused: a package asks for something other than packages of an index.
        WheelsMissing: no wheels meet the requirements.
        PackagesOffline, IndexUnavailable: the index cannot be read.
    """
    path = _path(uri, needs, interpreter, indexes)
    if not path.is_file():
        _keep(_resolve(uri, needs, interpreter), path)
    return _read(path)


def kept_lock(
    uri: str, needs: Needs, interpreter: Interpreter, *, indexes: Sequence[str] | None = None
) -> Lock | None:
    """Return the lock that is kept for these needs, or None.

    Raises:
        NotTrusted: as `lock`.
    """
    path = _path(uri, needs, interpreter, indexes)
    return _read(path) if path.is_file() else None


def _path(uri: str, needs: Needs, interpreter: Interpreter, allowed: Sequence[str] | None) -> Path:
    """Return the file of the lock for these needs from the indexes of this machine."""
    indexes = find_indexes()
    for index in indexes:
        check_index(uri, index, allowed)
    asked = [_requirements(needs), needs.logged_in, interpreter.minor, interpreter.platform]
    key = hashlib.sha256(json.dumps([*asked, *map(redact, indexes)]).encode()).hexdigest()
    return home() / "environments" / "locks" / f"{key[:32]}.json"


def _requirements(needs: Needs) -> list[str]:
    return sorted({*needs.requirements, *_FOR_SCORING})


def _read(path: Path) -> Lock:
    return Lock(**json.loads(path.read_text(encoding="utf-8")))


def _keep(made: Lock, path: Path) -> None:
    """Write a lock, unless another process has kept one meanwhile: all use the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(made), file, indent=2)
        with contextlib.suppress(FileExistsError):
            _link(Path(unfinished), path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _link(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        unfinished.replace(path)


def _resolve(uri: str, needs: Needs, interpreter: Interpreter) -> Lock:
    requirements, until = _requirements(needs), _until(needs.logged_in)
    done = _compile(requirements, interpreter, until)
    if done.code and until is not None and not find_failure(uri, done):
        until = None
        done = _compile(requirements, interpreter, until)
    if done.code:
        raise _failure(uri, needs, interpreter, done)
    for line in done.output.splitlines():
        if not _LOCKED.fullmatch(line):
            raise RequirementRefused(uri, f"its packages ask for {line[:100]!r}")
    return Lock(
        text=done.output, minor=interpreter.minor, platform=interpreter.platform, until=until
    )


def _until(month: tuple[int, int] | None) -> str | None:
    """Return the first day of the next month."""
    if month is None:
        return None
    years, month_before = divmod(month[0] * 12 + month[1], 12)
    return f"{years:04d}-{month_before + 1:02d}-01"


def _compile(requirements: Sequence[str], interpreter: Interpreter, until: str | None) -> Done:
    dated = [] if until is None else [f"--exclude-newer={until}T00:00:00Z"]
    python = f"--python={interpreter.executable}"
    return run_uv([*_COMPILE, python, *dated], text="\n".join([*requirements, ""]))


def _failure(uri: str, needs: Needs, interpreter: Interpreter, done: Done) -> Exception:
    reason = explain(done)
    if error := find_failure(uri, done):
        return error
    added = sorted({*_FOR_SCORING} - {*needs.requirements})
    alone = _compile(needs.requirements, interpreter, None) if needs.requirements else done
    if alone.code == 0:
        reason = f"not together with {listed(added)}, which scoring needs: {reason}"
    return WheelsMissing(uri, interpreter.minor, reason)


def explain(done: Done) -> str:
    """Return the reason for which uv failed, in one line."""
    text = " ".join(re.sub(r"[\u00d7\u2500-\u257f\u25b6]", " ", done.messages).split())
    because = re.search(r"Because .*?(?= hint: |$)", text)
    causes = _CAUSE.findall(done.messages)
    reason = because[0] if because else causes[-1] if causes else text
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."


def find_failure(uri: str, done: Done) -> Exception | None:
    """Return the error if uv failed because of the index or the machine, not of the packages."""
    if any(os.strerror(code) in done.messages for code in FULL):
        return DiskFull(uri, home() / "environments")
    if "authentication credentials" in done.messages:
        return IndexRefused(uri, find_indexes())
    if "network was disabled" in done.messages or "connectivity is disabled" in done.messages:
        missing = _NOT_CACHED.findall(done.messages) or _FETCHED.findall(done.messages)
        return PackagesOffline(uri, dict.fromkeys(missing) or ["packages"])
    if _AWAY.search(done.messages):
        return IndexUnavailable(uri, find_indexes(), explain(done))
    return None
