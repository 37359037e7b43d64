"""Expecting: the rules of a job's file for values, in the types of the table's columns."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from lakescore import executor
from lakescore.arrow import is_collated
from lakescore.errors import InputContractError
from lakescore.rules import list_values, map_values, parse_rule, uses_like

if TYPE_CHECKING:
    from pyspark.sql.types import DataType, StructField, StructType

    from lakescore.options import ExpectOptions

_MOST_DIGITS = 38
"""Of a table's decimals, and of a rule's numbers for them."""
_DECLARED = "__CHAR_VARCHAR_TYPE_STRING"
"""The key of Spark's metadata for the type that a text was declared with."""
_PAST_LONG = 2**63
"""The first number that no column of integers holds."""


class RuleUnfit(InputContractError):
    """A rule of the job's file compares a column with values of another type."""

    def __init__(self, address: str, column: str, kind: DataType, rule: str, problem: str) -> None:
        super().__init__(
            f"{address} has the column {column!r} of type {kind.simpleString()}, for which "
            f"expect.values has the rule {rule!r}: {problem}"
        )


def bind_expected(
    address: str, schema: StructType, options: ExpectOptions
) -> executor.Expected | None:
    """Return the rules of *options* with values of the types of *schema*; None without any.

    Raises:
        RuleUnfit: a rule does not fit the type of its column.
    """
    if not options.values and not options.nulls:
        return None
    rules = []
    for column, text in options.values.items():
        kind, condition = schema[column].dataType, parse_rule(column, text)
        try:
            if uses_like(condition) and not isinstance(kind, StringType):
                raise ValueError("only texts are like a pattern")  # noqa: TRY301 - as all others
            if schema[column].metadata.get(_DECLARED, "").startswith("char(") and list_values(
                condition
            ):
                raise ValueError("Spark fills up such texts with spaces")  # noqa: TRY301
            if is_collated(kind) and (uses_like(condition) or list_values(condition)):
                raise ValueError("Spark compares such texts by their collation, workers by bytes")  # noqa: TRY301
            typed = map_values(condition, partial(_make_typed, kind))
        except ValueError as error:
            raise RuleUnfit(address, column, kind, text, str(error)) from None
        rules.append(executor.Rule(column=column, condition=typed, text=text))
    return executor.Expected(rules=tuple(rules), nulls=tuple(options.nulls))


def _check_text(column: StructField) -> None:
    """Check that workers compare the values of *column* as Spark does."""
    if column.metadata.get(_DECLARED, "").startswith("char("):
        raise ValueError("Spark fills up such texts with spaces")
    if is_collated(column.dataType):
        raise ValueError("Spark compares such texts by their collation, workers by bytes")


def _make_typed(kind: DataType, value: str | bool | Decimal) -> Any:  # noqa: ANN401, FBT001, PLR0911 - a case a type
    """Return *value* as the Python value that workers compare with values of *kind*."""
    match kind, value:
        case BooleanType(), bool():
            return value
        case StringType(), str():
            return value
        case DoubleType() | FloatType(), Decimal():
            return float(value)
        case IntegralType() | DecimalType(), Decimal():
            digits, exponent = value.as_tuple().digits, int(value.as_tuple().exponent)
            if max(len(digits) + max(exponent, 0), -exponent) > _MOST_DIGITS:
                raise ValueError(f"{value} has more than {_MOST_DIGITS} digits")
            is_long = isinstance(kind, IntegralType) and exponent >= 0 and abs(value) < _PAST_LONG
            return int(value) if is_long else value
        case DateType(), str():
            return _read(value, date)
        case TimestampType(), str():
            time = _read(value, datetime)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        case TimestampNTZType(), str():
            time = _read(value, datetime)
            if time.tzinfo:
                raise ValueError(f"{value!r} has a time zone, but the column has none")
            return time
    shown = repr(value) if isinstance(value, str) else str(value).lower()
    raise ValueError(f"it cannot be compared with {shown}")


def _read(text: str, kind: type[date]) -> Any:  # noqa: ANN401 - a date, or a time
    try:
        return kind.fromisoformat(text)
    except ValueError:
        example = "2013-10-01" if kind is date else "2013-10-01T12:00"
        raise ValueError(f"{text!r} is not written as {example}") from None
