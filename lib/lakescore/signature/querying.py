"""Querying: the versions that the function PREDICT can apply in SQL, and the columns it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructType,
    TimestampType,
)

from lakescore.errors import LakescoreError
from lakescore.signature.contract import Contract, bind
from lakescore.signature.features import features_of, lacks_names
from lakescore.wording import listed

if TYPE_CHECKING:
    from lakescore.loading import Loadable

SCALARS: tuple[DataType, ...] = (
    BinaryType(),
    BooleanType(),
    ByteType(),
    DateType(),
    DoubleType(),
    FloatType(),
    IntegerType(),
    LongType(),
    ShortType(),
    StringType(),
    TimestampType(),
    *(DecimalType(digits, scale) for digits in range(1, 19) for scale in range(digits + 1)),
)
"""The types of columns that a query can pass to a version."""


def is_scalar(kind: DataType) -> bool:
    """Return whether a query can pass values of a type like *kind*: no arrays, structs or maps."""
    return type(kind) in {type(scalar) for scalar in SCALARS}


def refuse_query(loadable: Loadable) -> str:
    """Return the reason why a query cannot apply the version; empty if it can."""
    if loadable.is_pipeline:
        return "it is a pipeline of Spark ML; use lakescore.predict"
    if lacks_names(loadable):
        return "its signature has no names; use lakescore.predict"
    features = StructType(features_of(loadable))
    if unfit := [f.name for f in features if not is_scalar(f.dataType)]:
        return f"{listed(unfit)} are no single values"
    try:
        bind_query(features, loadable)
    except LakescoreError as error:
        return str(error)
    return ""


def bind_query(features: StructType, loadable: Loadable) -> Contract:
    """Return the contract of the version with the arguments of a query: its own *features*.

    Raises:
        The errors of `bind`.
    """
    return bind("the query", _Arguments(features), loadable)


@dataclass(frozen=True)
class _Arguments:
    """The arguments of a query, which PREDICT casts to the types of the features."""

    schema: StructType
