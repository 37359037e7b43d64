"""Opening: a table by delta-rs, whose errors become those of logs."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lakescore.logs.errors import NotEligible
from lakescore.storage import explain_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltalake import DeltaTable

    from lakescore.storage import Folder

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


def open_table(
    place: Folder, address: str, version: int | None
) -> tuple[DeltaTable, TemporaryDirectory[str] | None]:
    """Return the table in the folder *place*, and the links by which delta-rs reaches it, if any.

    The links must exist as long as the table is used.

    Raises:
        NotEligible: delta-rs does not open the table.
        FileNotFoundError: the table or its version does not exist.
        StorageUnavailable, StorageRefused, BucketMissing: the object store raised an error.
    """
    from deltalake import DeltaTable  # noqa: PLC0415 - not needed for --help
    from deltalake.exceptions import TableNotFoundError  # noqa: PLC0415

    uri, links = place.uri, None
    if place.is_local:
        if not Path(place.path, "_delta_log").is_dir():
            raise FileNotFoundError(place.path)
        if is_encoded(place):  # delta-rs would look for `a%20b` at `a b`, but it follows links
            links = TemporaryDirectory(prefix="lakescore-")
            for entry in Path(place.path).iterdir():
                Path(links.name, entry.name).symlink_to(entry)
            uri = Path(links.name).as_uri()
    try:
        table = DeltaTable(uri, version=version, storage_options=dict(place.options) or None)
    except TableNotFoundError as error:
        raise FileNotFoundError(address) from error
    except Exception as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        if version is not None and "version" in str(error).lower():
            raise FileNotFoundError(f"{address} at version {version}") from error
        raise NotEligible(f"delta-rs does not open the table: {first_line(error)}") from error
    return table, links


def is_encoded(place: Folder) -> bool:
    """Return whether delta-rs, which decodes a path twice, looks for the folder elsewhere."""
    return _ENCODED.search(place.path) is not None


@contextmanager
def decline_errors(address: str) -> Iterator[None]:
    """Decline a log that delta-rs does not read."""
    try:
        yield
    except Exception as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise NotEligible(f"delta-rs does not read the table's log: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error of delta-rs, for a message."""
    return (str(error).splitlines() or [""])[0][:200]
