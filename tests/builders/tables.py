"""Small Delta tables, made and read without Spark: for tests that are not about Spark."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

KINDS = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
"""What Spark's names of types are in a file."""


def schema_of(columns: str) -> pa.Schema:
    """Return the schema that Spark's own words say, such as "id int, `my id` decimal(9, 2)"."""
    matches = re.findall(r"(?:`([^`]+)`|(\w+)) (\w+(?:\([^)]*\)|<[^>]+>)?)", columns)
    return pa.schema([(quoted or plain, _kind(words)) for quoted, plain, words in matches])


def _kind(words: str) -> pa.DataType:
    name, _, inside = words.rstrip(")>").replace("<", "(").partition("(")
    if name == "decimal":
        return pa.decimal128(*map(int, inside.split(",")))
    if name == "map":
        key, value = inside.split(",")
        return pa.map_(KINDS[key], KINDS[value])
    return pa.list_(KINDS[inside]) if name == "array" else KINDS[name]


def make_table(
    path: str | Path,
    rows: Iterable[Sequence[Any]],
    columns: str,
    *,
    by: Sequence[str] = (),
    mode: Literal["error", "append", "overwrite"] = "error",
) -> str:
    """Write *rows* as one commit of one file, or one a value of *by*; return the path.

    Args:
        path: of the table, which is made where there is none.
        rows: their values in the order of *columns*.
        columns: names and types as Spark writes them.
        by: the columns that divide the table.
        mode: whether a table may be there, and whether its rows go; other columns go with them.
    """
    schema = schema_of(columns)
    values = list(zip(*rows, strict=True)) or [()] * len(schema)
    table = pa.table([pa.array(v, f.type) for v, f in zip(values, schema, strict=True)], schema)
    write_deltalake(
        str(path),
        table,
        partition_by=list(by) or None,
        mode=mode,
        schema_mode="overwrite" if mode == "overwrite" else None,
    )
    return str(path)


def write_log(table: Path, fields: Sequence[Mapping[str, Any]] | str) -> None:
    """Write the log of a table without rows, whose columns no writer would make.

    Args:
        table: the folder, which is made.
        fields: the columns as Delta writes them, or the text in their place.
    """
    schema = fields if isinstance(fields, str) else json.dumps({"type": "struct", "fields": fields})
    metadata = {
        "id": "0",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": [],
        "configuration": {},
    }
    protocol = {"minReaderVersion": 1, "minWriterVersion": 2}
    lines = [{"protocol": protocol}, {"metaData": metadata}]
    (table / "_delta_log").mkdir(parents=True)
    text = "\n".join(json.dumps(line) for line in lines)
    (table / "_delta_log" / f"{0:020}.json").write_text(text)


def column(name: str, kind: Any = "double") -> dict[str, Any]:
    """Return a column as Delta writes it."""
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


def rows_of(path: str | Path, *columns: str) -> list[tuple[Any, ...]]:
    """Return the rows in order, missing values first, as tuples of *columns*, or of all of them."""
    table = DeltaTable(str(path)).to_pyarrow_table(columns=list(columns) or None)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return sorted(rows, key=_order)


def _order(row: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    return [(value is not None, value) for value in row]


def types_of(path: str | Path) -> dict[str, str]:
    """Return the columns in their order, and the types that the table's log has for them."""
    fields = json.loads(DeltaTable(str(path)).schema().to_json())["fields"]
    return {field["name"]: field["type"] for field in fields}


def commits_of(path: str | Path) -> list[dict[str, Any]]:
    """Return what commits say of themselves, the newest first."""
    texts = [commit.get("userMetadata") for commit in DeltaTable(str(path)).history()]
    return [json.loads(text) for text in texts if text]
