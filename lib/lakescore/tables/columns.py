"""Columns: the schema of a table, compared with that of rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lakescore.tables.errors import SchemaDrift

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


def columns_json(schema: StructType) -> Any:  # noqa: ANN401 - JSON
    """Return *schema* as JSON in which everything is nullable, as in tables that Spark makes."""
    nullable = ("nullable", "containsNull", "valueContainsNull")
    return json.loads(
        schema.json(),
        object_hook=lambda node: node | {key: True for key in nullable if key in node},
    )


def check_columns(written: StructType, address: str, existing: StructType) -> None:
    """Check that the table has the columns *written* with their types; Spark would cast some."""
    kinds = {field["name"].lower(): field["type"] for field in columns_json(existing)["fields"]}
    for field in columns_json(written)["fields"]:
        kind = kinds.get(field["name"].lower())
        if kind is None:
            raise SchemaDrift(address, f"it has no column {field['name']}")
        if kind != field["type"]:
            raise SchemaDrift(
                address, f"its column {field['name']} is {kind}, not {field['type']} as in the rows"
            )
