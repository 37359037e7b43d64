"""Explaining: which version, run and input made a prediction; read without Spark."""

from __future__ import annotations

import re
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakescore import provenance
from lakescore.errors import ColumnsMissing, ConfigError, InputContractError, LakescoreError
from lakescore.home import home
from lakescore.logs import Log, NotEligible
from lakescore.provenance import COLUMNS, ERROR_COLUMNS
from lakescore.storage import TableNotFound, explain_error
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyarrow.dataset import Dataset

    from lakescore.provenance import SliceCommit

_MODEL_COLUMNS = {"model_name", "model_version"}
"""Columns of lineage that `model_uri` tells too."""
_MOST_ROWS = 100
_NAME = re.compile(r"\w+(\.\w+){1,2}")
"""The form of a table's name in a catalog. The names of folders seldom have a dot."""
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_ZONE = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$")
"""The end of a time that has a zone or an offset."""


class TableNotAtPath(TableNotFound):
    """The folder does not exist, and its path looks like a name of a catalog."""

    def __init__(self, address: str, name: str) -> None:
        LakescoreError.__init__(
            self,
            f"there is no table at {address}; without Spark, give the table's folder or URI, not "
            f"its name in a catalog (DESCRIBE DETAIL {name} shows the location)",
        )


class RowNotFound(InputContractError):
    """Neither the table nor its quarantine has a row with that key."""

    def __init__(self, address: str, key: Mapping[str, str], unread: Sequence[str] = ()) -> None:
        values = listed(f"{name}={value}" for name, value in key.items())
        problem = f"neither {address} nor its quarantine has a row with {values}"
        advice = "check the values, or score the row"
        if unread:  # names of a catalog
            problem = (
                f"no row of {address} has {values}, and its quarantine {listed(unread)} was not "
                "read: only Spark can open a table by its name"
            )
            advice = "check the values, or give that table's folder"
        super().__init__(f"{problem}; {advice}")


class KeyUnreadable(ConfigError):
    """A value does not have the type of its column."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        super().__init__(
            f"--key {name}={text}: {text!r} does not fit the type of the column, {kind}"
        )


def explain(address: str, key: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the lineage of the rows with *key*, both published and quarantined.

    Args:
        address: the folder or URI of a table of predictions; a relative folder lies in the current
            folder or under `LAKESCORE_HOME`.
        key: columns and values, as texts.

    Returns:
        For each row: `status` (`published` or `quarantined`), `row` (the columns that are not
        lineage) and the columns of its lineage. While the log holds the commit, also
        `committed_in` (the table's version), `model_digest` and `settings`.

    Raises:
        TableNotFound, InputContractError: the table does not exist, or holds no predictions.
        ConfigError: both folders have such a table.
        ColumnsMissing, KeyUnreadable, RowNotFound: the column, value or row does not exist.
    """
    place = address if "://" in address else _folder(address)
    if address.startswith("file:"):  # Spark takes this path literally and decodes nothing
        place = "/" + address.removeprefix("file:").lstrip("/")
    try:
        return _find_rows(address, place, key)
    except NotEligible as error:
        raise InputContractError(f"{place} cannot be read without Spark: {error}") from error
    except (OSError, pa.ArrowException) as error:
        if (known := explain_error(error, address)) is not None:
            raise known from error
        raise


def _folder(address: str) -> str:
    """Return the folder with the table: of the current folder and the data folder, the only one."""
    path = Path(address).expanduser()
    candidates = list(dict.fromkeys([Path().absolute() / path, home() / path]))
    tables = [folder for folder in candidates if (folder / "_delta_log").is_dir()]
    if len(tables) > 1 and not tables[0].samefile(tables[1]):
        both = listed(map(str, tables))
        raise ConfigError(f"{address} is two tables: {both}; give the whole path of one of them")
    return str(tables[0] if tables else candidates[-1])


def _find_rows(address: str, place: str, key: Mapping[str, str]) -> list[dict[str, Any]]:
    log = _open_log(place)
    if log is None and _NAME.fullmatch(address):
        raise TableNotAtPath(place, address)
    if log is None:
        raise TableNotFound(place)
    rows = _explain_rows(place, log, key)
    quarantines = provenance.quarantines(log.commits(), f"{place.rstrip('/')}_quarantine")
    for quarantine in quarantines:
        quarantine_log = _open_log(quarantine) if "/" in quarantine else None
        if quarantine_log is not None and key.keys() <= quarantine_log.stored.keys():
            rows += _explain_rows(place, quarantine_log, key)
    if not rows:
        wanted = {name: _show(_encode(text)) for name, text in key.items()}
        raise RowNotFound(place, wanted, [name for name in quarantines if "/" not in name])
    return rows


def _open_log(place: str) -> Log | None:
    """Return the log of the table at *place*; None if there is no table."""
    try:
        return Log(place)
    except FileNotFoundError:
        return None


def _explain_rows(place: str, log: Log, key: Mapping[str, str]) -> list[dict[str, Any]]:
    dataset = log.dataset()
    names = dataset.schema.names
    missing = [name for name in key if name not in names]
    if missing:
        raise ColumnsMissing(place, missing, names)
    if not set(COLUMNS) <= set(names):
        raise InputContractError(f"{place} is not a table of predictions: its rows have no lineage")
    table = _read_rows(dataset, key)
    columns = [_column_values(column) for column in table.columns]
    commits = provenance.newest(log.commits())
    status = "quarantined" if set(ERROR_COLUMNS) <= set(names) else "published"
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [_explain_row(row, status, commits) for row in rows]


def _read_rows(dataset: Dataset, key: Mapping[str, str]) -> pa.Table:
    import pyarrow.dataset as ds  # noqa: PLC0415 - --help does without it

    equal, nan = [ds.scalar(True)], [ds.scalar(True)]  # noqa: FBT003 - expressions
    for name, text in key.items():
        kind = dataset.schema.field(name).type
        value = None if pa.types.is_string(kind) else _parse_value(name, text, kind)
        if value is None:
            equal.append(pc.field(name).isin(_spellings(text)))
        elif pa.types.is_floating(kind) and pc.is_nan(value).as_py():
            nan.append(pc.is_nan(pc.field(name)))
        else:
            equal.append(pc.field(name) == value)
    rows = dataset.scanner(filter=reduce(and_, equal)).to_reader()
    # Parquet's statistics leave NaN out, so a filter after the read finds it.
    return ds.Scanner.from_batches(rows, filter=reduce(and_, nan)).head(_MOST_ROWS)


def _column_values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_string(column.type):
        return list(column.to_pylist())
    return [text if text is None else _show(text) for text in column.cast(pa.binary()).to_pylist()]


def _show(text: bytes) -> str:
    r"""Return *text* with `\xNN` in the place of each byte that is not UTF-8."""
    return text.decode(errors="backslashreplace")


def _encode(text: str) -> bytes:
    """Return the bytes that the user typed.

    The shell passes bytes that are not UTF-8 as surrogates.
    """
    return text.encode(errors="surrogateescape")


def _explain_row(
    row: Mapping[str, Any], status: str, commits: Mapping[tuple[str, str], SliceCommit]
) -> dict[str, Any]:
    columns = {name: value for name, value in row.items() if name not in COLUMNS}
    shown = [name for name in COLUMNS if name not in _MODEL_COLUMNS]
    explained = {"status": status, "row": columns, **{name: row[name] for name in shown}}
    commit = commits.get((row["slice"], row["scoring_run_id"]))
    if commit is None:
        return explained
    return {
        **explained,
        "committed_in": commit.version,
        "settings": commit.record.settings,
        "model_digest": commit.record.digests.get(row["model_uri"]),
    }


def _spellings(text: str) -> pa.Array:
    """Return the texts that *text* can mean: itself, and the text that `_show` turns into it."""
    raw = _encode(text)
    unescaped = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), raw)
    spellings = [raw] if _show(unescaped) != text or unescaped == raw else [raw, unescaped]
    return pa.array(spellings, pa.binary()).view(pa.string())


def _parse_value(name: str, text: str, kind: pa.DataType) -> pa.Scalar:
    try:
        value = pa.scalar(text)
        if pa.types.is_timestamp(kind) and kind.tz and not _ZONE.search(text):
            return pc.assume_timezone(value.cast(pa.timestamp(kind.unit)), kind.tz)
        return value.cast(kind)
    except (pa.ArrowException, UnicodeEncodeError):
        raise KeyUnreadable(name, _show(_encode(text)), str(kind)) from None
