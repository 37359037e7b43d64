"""Describe versions with their files: all facts, their differences, and copies of files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lakescore.errors import ConfigError
from lakescore.registry import artifacts, reading
from lakescore.registry.difference import Difference, compare_records
from lakescore.registry.errors import ArtifactsMissing, FileExists
from lakescore.registry.finding import find
from lakescore.registry.store import answering, connect
from lakescore.registry.table import Rows
from lakescore.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.registry.record import File, VersionRecord

_MOST_BYTES_FOR_DIGEST = 100_000_000


def describe(reference: str, *, digest_up_to: int = _MOST_BYTES_FOR_DIGEST) -> VersionRecord:
    """Return all facts of one version, with its signature and files; the model is not loaded.

    Args:
        reference: as in `resolve`.
        digest_up_to: bytes; if no digest was recorded, and the files are larger in total, they are
            not fetched for a digest.

    Raises:
        BadReference, ModelNotFound, VersionNotFound, VersionDeleted, AliasNotFound,
            QueryNotUnique: as `resolve`.
        ArtifactsMissing, IntegrityError: the files are missing, or cannot be read.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        if record.card is not None and record.card.files is not None:
            return record
        location = reading.location_of(client, record)
        card = artifacts.read_card(record.uri, location, digest_up_to=digest_up_to)
        return replace(record, card=card)


def diff(references: Sequence[str], *, changed: bool = False) -> Difference:
    """Compare versions side by side: the first with each of the others.

    Args:
        references: as in `resolve`; two or more.
        changed: whether to keep only the lines that differ.

    Raises:
        As `describe`.
    """
    return compare_records([describe(reference) for reference in references], changed=changed)


def files(reference: str) -> Rows[File]:
    """Return the logged files of one version, sorted by path: one request per folder.

    Raises:
        As `describe`, without the errors of reading a file.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        return Rows(artifacts.list_files(record.uri, location), ("path", "size"))


def fetch_file(reference: str, path: str, to: Path) -> Path:
    """Copy one logged file of a version into the folder *to*, and return the copy.

    Args:
        reference: as in `resolve`.
        path: as `files` lists it.
        to: the folder; it is created if it does not exist.

    Raises:
        ArtifactsMissing: the version has no such file.
        FileExists: *to* already has a file of that name, which is not changed.
        ConfigError: *to* cannot be written to.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        paths = [file.path for file in artifacts.list_files(record.uri, location)]
        if path not in paths:
            raise ArtifactsMissing(record.uri, f"there is no file {path!r}{nearest(path, paths)}")
        target = to / PurePosixPath(path).name
        if target.exists() or target.is_symlink():
            raise FileExists(target)
        copy = artifacts.fetch_file(record.uri, location, path)
    try:
        to.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(copy, target))
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}; name another folder"
        ) from error
