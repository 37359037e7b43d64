"""Tables: read one snapshot of a Delta table; write a slice and publish it in one commit.

An address is a table's name (`schema.table`), or an absolute path or URI. Only paths and URIs have
a `/`.
"""

from lakescore.tables.creating import TableNotMade
from lakescore.tables.errors import SchemaDrift, TableAppendOnly
from lakescore.tables.lookup import exists
from lakescore.tables.reading import (
    added,
    commits,
    file_changes,
    is_published,
    partitioned_by,
    snapshot,
)
from lakescore.tables.spark_writer import merge
from lakescore.tables.transaction import Transaction
from lakescore.tables.writing import begin, clear, put, put_parts, replace

__all__ = [
    "SchemaDrift",
    "TableAppendOnly",
    "TableNotMade",
    "Transaction",
    "added",
    "begin",
    "clear",
    "commits",
    "exists",
    "file_changes",
    "is_published",
    "merge",
    "partitioned_by",
    "put",
    "put_parts",
    "replace",
    "snapshot",
]
