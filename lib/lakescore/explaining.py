"""Explaining: which version, run and input made a prediction, read from the table without Spark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakescore.errors import (
    ColumnsMissing,
    InputContractError,
    KeyUnreadable,
    RowNotFound,
    TableNotAtPath,
    TableNotFound,
)
from lakescore.home import home
from lakescore.storage import trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

_LINEAGE = (
    "model_uri",
    "model_reference",
    "model_run_id",
    "logged_model_id",
    "input_table",
    "input_version",
    "slice",
    "scoring_run_id",
    "scored_at",
)
_OTHER = {"model_name", "model_version"}
_MOST_ROWS = 100
_NAME = re.compile(r"\w+(\.\w+){1,2}")
"""A table's name in a catalog: folders seldom hold a dot."""
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_ZONE = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$")
"""How a time ends that says where it is one."""


def explain(address: str, key: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what is known of the rows with *key*: as they were published, and as they failed.

    Args:
        address: the folder or URI of a table of predictions; a relative one lies under
            `LAKESCORE_HOME`.
        key: columns and values, as texts.

    Returns:
        For each row: `status` (`published` or `quarantined`), `row` (its own columns), the
        columns of its lineage, and what the commit says besides, while the log holds it:
        `committed_in` (the table's version), `model_digest` and `settings`.

    Raises:
        TableNotFound, InputContractError: there is no such table, or it is not one of predictions.
        ColumnsMissing, KeyUnreadable, RowNotFound: there is no such column, value or row.
    """
    from deltalake.exceptions import DeltaError  # noqa: PLC0415 - no part of --help

    place = address if "://" in address else str(home() / Path(address).expanduser())
    if address.startswith("file:"):  # which Spark takes as it stands, without decoding it
        place = "/" + address.removeprefix("file:").lstrip("/")
    try:
        with TemporaryDirectory(prefix="lakescore-") as links:
            found = _found(address, place, key, Path(links))
    except (DeltaError, OSError) as error:
        if (known := trouble(error, address)) is not None:
            raise known from error
        if isinstance(error, OSError):
            raise
        first = str(error).splitlines()[0]
        raise InputContractError(f"{place} cannot be read without Spark: {first}") from error
    if not found:
        raise RowNotFound(place, dict(key))
    return found


def _found(address: str, place: str, key: Mapping[str, str], links: Path) -> list[dict[str, Any]]:
    table = _opened(place, links / "predictions")
    if table is None and _NAME.fullmatch(address):
        raise TableNotAtPath(place, address)
    if table is None:
        raise TableNotFound(place)
    found = _rows(place, table, key)
    aside = _opened(place.rstrip("/") + "_quarantine", links / "quarantine")
    if aside is not None and key.keys() <= {field.name for field in aside.schema().fields}:
        found += _rows(place, aside, key)
    return found


def _opened(place: str, links: Path) -> DeltaTable | None:
    """Open the table at *place*, if there is one; *links* is a folder that may be made for it."""
    from deltalake import DeltaTable  # noqa: PLC0415 - no part of --help
    from deltalake.exceptions import TableNotFoundError  # noqa: PLC0415

    try:
        return DeltaTable(place if "://" in place else _legible(Path(place), links).as_uri())
    except TableNotFoundError:
        return None


def _legible(folder: Path, links: Path) -> Path:
    """Return *folder*, or *links* with what is in it where delta-rs would read its name otherwise.

    It decodes a path twice, so it looks for `a%20b` at `a b`; it follows links in a table.
    """
    if not _ENCODED.search(str(folder)) or not folder.is_dir():
        return folder
    links.mkdir()
    for entry in folder.iterdir():
        (links / entry.name).symlink_to(entry)
    return links


def _rows(place: str, table: DeltaTable, key: Mapping[str, str]) -> list[dict[str, Any]]:
    dataset = table.to_pyarrow_dataset()
    names = dataset.schema.names
    missing = [name for name in key if name not in names]
    if missing:
        raise ColumnsMissing(place, missing, names)
    if not {*_LINEAGE, *_OTHER} <= set(names):
        raise InputContractError(f"{place} is no table of predictions: its rows have no lineage")
    chosen = [
        pc.equal(pc.field(name), _typed(name, text, dataset.schema.field(name).type))
        for name, text in key.items()
    ]
    condition = chosen[0]
    for each in chosen[1:]:
        condition &= each
    rows = dataset.scanner(filter=condition).head(_MOST_ROWS).to_pylist()
    commits = _commits(table)
    status = "quarantined" if {"error_type", "error_message"} <= set(names) else "published"
    return [_told(row, status, commits) for row in rows]


def _told(
    row: Mapping[str, Any], status: str, commits: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, Any]:
    own = {name: v for name, v in row.items() if name not in _OTHER and name not in _LINEAGE}
    commit = commits.get((row["slice"], row["scoring_run_id"]), {})
    return {"status": status, "row": own, **{name: row[name] for name in _LINEAGE}, **commit}


def _commits(table: DeltaTable) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what commits say, the newest of each slice and run."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for commit in table.history():
        try:
            said = json.loads(commit.get("userMetadata") or "{}")
        except ValueError:
            continue
        for each in said.get("slices", []) if isinstance(said, dict) else []:
            facts = {
                "committed_in": commit.get("version"),
                "model_digest": said.get("model_digest"),
            }
            facts["settings"] = said.get("settings")
            found.setdefault((each["slice"], each["scoring_run_id"]), facts)
    return found


def _typed(name: str, text: str, kind: pa.DataType) -> pa.Scalar:
    value = pa.scalar(text)
    try:
        if pa.types.is_timestamp(kind) and kind.tz and not _ZONE.search(text):
            return pc.assume_timezone(value.cast(pa.timestamp(kind.unit)), kind.tz)
        return value.cast(kind)
    except pa.ArrowException:
        raise KeyUnreadable(name, text, str(kind)) from None
