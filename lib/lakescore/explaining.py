"""Explaining: which version, run and input made a prediction, read from the table without Spark."""

from __future__ import annotations

import re
from functools import reduce
from operator import and_
from pathlib import Path
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
from lakescore.logs import Log, NotEligible
from lakescore.storage import explain_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyarrow.dataset import Dataset

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
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
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
    place = address if "://" in address else str(home() / Path(address).expanduser())
    if address.startswith("file:"):  # which Spark takes as it stands, without decoding it
        place = "/" + address.removeprefix("file:").lstrip("/")
    try:
        return _found(address, place, key)
    except NotEligible as error:
        raise InputContractError(f"{place} cannot be read without Spark: {error}") from error
    except (OSError, pa.ArrowException) as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise


def _found(address: str, place: str, key: Mapping[str, str]) -> list[dict[str, Any]]:
    log = _opened(place)
    if log is None and _NAME.fullmatch(address):
        raise TableNotAtPath(place, address)
    if log is None:
        raise TableNotFound(place)
    rows = _rows(place, log, key)
    asides = _quarantines(place, log)
    for each in asides:
        aside = _opened(each) if "/" in each else None
        if aside is not None and key.keys() <= aside.stored.keys():
            rows += _rows(place, aside, key)
    if not rows:
        asked = {name: _shown(_bytes(text)) for name, text in key.items()}
        raise RowNotFound(place, asked, [each for each in asides if "/" not in each])
    return rows


def _quarantines(place: str, log: Log) -> list[str]:
    """Return the addresses of the quarantines, the newest first.

    Commits name a table that a job's file names; of others it lies beside the output.
    """
    sayings = log.commits()
    named = [said["quarantine"] for _, said in sayings if said.get("quarantine")]
    if not named or any("slices" in said and "quarantine" not in said for _, said in sayings):
        named.append(place.rstrip("/") + "_quarantine")
    return list(dict.fromkeys(named))


def _opened(place: str) -> Log | None:
    """Open the table at *place*, if there is one."""
    try:
        return Log(place)
    except FileNotFoundError:
        return None


def _rows(place: str, log: Log, key: Mapping[str, str]) -> list[dict[str, Any]]:
    dataset = log.dataset()
    names = dataset.schema.names
    missing = [name for name in key if name not in names]
    if missing:
        raise ColumnsMissing(place, missing, names)
    if not {*_LINEAGE, *_OTHER} <= set(names):
        raise InputContractError(f"{place} is no table of predictions: its rows have no lineage")
    found = _chosen(dataset, key)
    columns = [_values(column) for column in found.columns]
    commits = _commits(log)
    status = "quarantined" if {"error_type", "error_message"} <= set(names) else "published"
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [_told(row, status, commits) for row in rows]


def _chosen(dataset: Dataset, key: Mapping[str, str]) -> pa.Table:
    import pyarrow.dataset as ds  # noqa: PLC0415 - no part of --help

    equal, nan = [ds.scalar(True)], [ds.scalar(True)]  # noqa: FBT003 - expressions
    for name, text in key.items():
        kind = dataset.schema.field(name).type
        value = None if pa.types.is_string(kind) else _typed(name, text, kind)
        if value is None:
            equal.append(pc.field(name).isin(_spelled(text)))
        elif pa.types.is_floating(kind) and pc.is_nan(value).as_py():
            nan.append(pc.is_nan(pc.field(name)))
        else:
            equal.append(pc.field(name) == value)
    rows = dataset.scanner(filter=reduce(and_, equal)).to_reader()
    # Parquet's statistics leave NaN out, so it is looked for in rows that were read already.
    return ds.Scanner.from_batches(rows, filter=reduce(and_, nan)).head(_MOST_ROWS)


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_string(column.type):
        return list(column.to_pylist())
    return [text if text is None else _shown(text) for text in column.cast(pa.binary()).to_pylist()]


def _shown(text: bytes) -> str:
    r"""Return *text* with `\xNN` where it is no UTF-8."""
    return text.decode(errors="backslashreplace")


def _bytes(text: str) -> bytes:
    """Return what was typed: the shell hands over what is no UTF-8 as surrogates."""
    return text.encode(errors="surrogateescape")


def _told(
    row: Mapping[str, Any], status: str, commits: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, Any]:
    own = {name: v for name, v in row.items() if name not in _OTHER and name not in _LINEAGE}
    commit = commits.get((row["slice"], row["scoring_run_id"]))
    told = {"status": status, "row": own, **{name: row[name] for name in _LINEAGE}}
    if commit is None:
        return told
    of_version = {"model_digest": commit["digests"].get(row["model_uri"])}
    facts = {name: commit[name] for name in ("committed_in", "settings")}
    return {**told, **facts, **of_version}


def _commits(log: Log) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what commits say, the newest of each slice and run."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for version, said in log.commits():
        for each in said.get("slices", []):
            facts = {"committed_in": version, "digests": _digests(said)}
            facts["settings"] = said.get("settings")
            found.setdefault((each["slice"], each["scoring_run_id"]), facts)
    return found


def _digests(said: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the digests of the versions that a commit says were used, by their URIs."""
    if "segments" in said:
        return {uri: digest for _, uri, digest in said["segments"]}
    return {said["model_uri"]: said.get("model_digest")} if "model_uri" in said else {}


def _spelled(text: str) -> pa.Array:
    """Return the texts that *text* may stand for: itself, and what `_shown` shows so."""
    raw = _bytes(text)
    meant = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), raw)
    spelled = [raw] if _shown(meant) != text or meant == raw else [raw, meant]
    return pa.array(spelled, pa.binary()).view(pa.string())


def _typed(name: str, text: str, kind: pa.DataType) -> pa.Scalar:
    try:
        value = pa.scalar(text)
        if pa.types.is_timestamp(kind) and kind.tz and not _ZONE.search(text):
            return pc.assume_timezone(value.cast(pa.timestamp(kind.unit)), kind.tz)
        return value.cast(kind)
    except (pa.ArrowException, UnicodeEncodeError):
        raise KeyUnreadable(name, _shown(_bytes(text)), str(kind)) from None
