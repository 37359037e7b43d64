"""Names of slices and segments: the columns that can name them, and the value for each name."""

from __future__ import annotations

import re
from datetime import date

from pyspark.sql.types import DataType, DateType, IntegralType, StringType, StructField

from lakescore.arrow import arrow_type, is_collated
from lakescore.errors import InputContractError

WHOLE = "all"
"""The name of the one slice of a table that is not divided."""
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""The name of the folder, in a partitioned table, of rows that have null in the column."""
_LONGEST_FOLDER = 255
_CHAR = re.compile(r"char\(([0-9]+)\)")
"""The type in a schema of a text that is filled up with spaces."""


def check_segments(column: StructField) -> None:
    """Check that the values of *column* can name segments.

    Raises:
        InputContractError: the column has another type.
    """
    name, kind = column.name, column.dataType
    if letters := _padded_length(column):
        raise InputContractError(
            f"column {name!r} is a char({letters}), whose texts are filled up with spaces; name "
            "segments by a string"
        )
    if not isinstance(kind, (StringType, IntegralType)) or is_collated(kind):
        raise InputContractError(
            f"column {name!r} is {kind.simpleString()}; a segment is named by a text or an integer"
        )


def parse_name(field: StructField, name: str) -> date | int | str:
    """Return *name* as a value of the column's type, with which Delta can skip files."""
    kind = field.dataType
    if isinstance(kind, StringType) and not is_collated(kind):
        _check_text(field, name)
        return name
    if isinstance(kind, (DateType, IntegralType)):
        return _parse_value(field.name, kind, name)
    raise unfit_error(field.name, kind)


def _check_text(field: StructField, name: str) -> None:
    """Check that the text *name* can be a value of the column *field*, and a folder's name."""
    column = field.name
    if len(name) < (letters := _padded_length(field)):  # Spark reads such texts with the spaces
        raise InputContractError(
            f"slice {name!r} of column {column!r}, a char({letters}), is written with spaces "
            f"up to {letters} letters"
        )
    if not name:  # Delta stores it as null in a partition column
        raise InputContractError(f"rows whose column {column!r} is empty belong to no slice")
    if name == _NULL_FOLDER:
        raise InputContractError(
            f"rows whose column {column!r} is {name} cannot be a slice: in a table that is "
            "partitioned by it, it means null; remove them, or rename the value"
        )
    if (long := len(f"slice={_folder_name(name)}".encode())) > _LONGEST_FOLDER:
        raise InputContractError(
            f"slice {name[:20]}... of column {column!r} needs a folder whose name has {long} "
            f"bytes, and a file system takes {_LONGEST_FOLDER}; slice by a shorter column"
        )


def _parse_value(column: str, kind: DateType | IntegralType, name: str) -> date | int:
    try:
        value = date.fromisoformat(name) if isinstance(kind, DateType) else int(name)
    except ValueError:
        years = " of the years 1 to 9999" if isinstance(kind, DateType) else ""
        raise InputContractError(
            f"slice {name!r} is not a {kind.simpleString()}{years}, the type of column {column!r}"
        ) from None
    if isinstance(value, int) and not (limits := _integer_limits(kind))[0] <= value <= limits[1]:
        raise InputContractError(
            f"slice {name!r} is out of the range of column {column!r}: a {kind.simpleString()} "
            f"is from {limits[0]} to {limits[1]}"
        )
    if str(value) != name:  # 20131201 and 01 would publish the same rows twice
        raise InputContractError(f"slice {name!r} of column {column!r} is written '{value}'")
    return value


def _padded_length(field: StructField) -> int:
    """Return the length to which Spark fills up texts of a `CHAR` column; 0 for other columns."""
    declared = _CHAR.fullmatch(field.metadata.get("__CHAR_VARCHAR_TYPE_STRING", ""))
    return int(declared[1]) if declared else 0


def _integer_limits(kind: DataType) -> tuple[int, int]:
    """Return the smallest and the largest integer of *kind*."""
    half = 1 << (arrow_type(kind).bit_width - 1)
    return -half, half - 1


def _folder_name(name: str) -> str:
    """Return *name* about as in the name of Spark's folder: odd characters as `%` and digits."""
    return re.sub(r"[\x00-\x1f\x7f\"#%'*/:=?\\{\[\]^]", "%00", name)


def unfit_error(column: str, kind: DataType) -> InputContractError:
    """Return the error for a *column* whose type *kind* cannot name slices."""
    return InputContractError(
        f"column {column!r} is {kind.simpleString()}; slice_by takes a date, an integer or a string"
    )
