"""Probing: this process or a worker of this machine predicts a few rows before tasks start."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    ArrayType,
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
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from lakescore import executor, scanning
from lakescore.arrow import collected
from lakescore.engines.failures import UNFIT_ERRORS, FeaturesLeftOut, ResultUnfit
from lakescore.errors import ScoringFailed
from lakescore.logs import NotEligible
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from pyspark.sql import Column

    from lakescore.engines.plan import Request
    from lakescore.options import ScanName
    from lakescore.runner import Runner
    from lakescore.signature import Contract

ROWS = 200
"""The rows of a probe."""
_TIME_TYPES = (TimestampNTZType, TimestampType)
_FEATURE_TYPES = (
    BinaryType,
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    *_TIME_TYPES,
)
"""The types that Arrow and MLflow's function turn into the same pandas values, times in UTC. The
same is true for arrays, structs and maps of them."""
_ZONE_SETTING = "spark.sql.session.timeZone"


def find_refusal(runner: Runner, columns: Sequence[StructField]) -> str:
    """Return the reason why Arrow batches of *columns* cannot go to a model; empty if they can."""
    unfit = [
        f"{column.name} ({column.dataType.simpleString()})"
        for column in columns
        if not _is_fit(column.dataType)
    ]
    if unfit:
        return f"it does not take the columns {listed(unfit)}"
    zone = runner.setting(_ZONE_SETTING, "UTC")
    if zone != "UTC" and any(
        isinstance(kind, _TIME_TYPES) for column in columns for kind in _leaf_types(column.dataType)
    ):
        return f"it reads times in UTC, and {_ZONE_SETTING} is {zone}"
    return ""


def _is_fit(kind: DataType) -> bool:
    if isinstance(kind, MapType):
        has_times = any(isinstance(leaf, _TIME_TYPES) for leaf in _leaf_types(kind))
        return isinstance(kind.keyType, StringType) and _is_fit(kind.valueType) and not has_times
    if isinstance(kind, StructType):
        return bool(kind.fields) and all(_is_fit(field.dataType) for field in kind)
    if isinstance(kind, ArrayType):
        return _is_fit(kind.elementType)
    return isinstance(kind, _FEATURE_TYPES)


def _leaf_types(kind: DataType) -> list[DataType]:
    """Return the types of the values in *kind* that are no structs, arrays or maps."""
    if isinstance(kind, StructType):
        return [leaf for field in kind for leaf in _leaf_types(field.dataType)]
    if isinstance(kind, ArrayType):
        return _leaf_types(kind.elementType)
    if isinstance(kind, MapType):
        return [*_leaf_types(kind.keyType), *_leaf_types(kind.valueType)]
    return [kind]


def read_sample(
    request: Request,
    columns: Sequence[StructField],
    scan: ScanName = "spark",
    most: int = ROWS,
) -> pa.RecordBatch | None:
    """Return *columns* of at most *most* of the first rows; None if there are no rows."""
    try:
        if request.selection is None or scan == "spark":
            raise NotEligible("Spark must read")  # noqa: TRY301 - as all others
        table = scanning.first(request.selection, columns, most)
    except NotEligible:
        table = collected(request.rows.select(*cast_columns(columns)).limit(most))
    return table.combine_chunks().to_batches()[0] if table.num_rows else None


def cast_columns(columns: Sequence[StructField]) -> list[Column]:
    """Return *columns* of a frame with their types and the names f0, f1, ...."""
    return [F.col(f"`{c.name}`").cast(c.dataType).alias(f"f{n}") for n, c in enumerate(columns)]


def feature_positions(
    contract: Contract, columns: Sequence[StructField]
) -> tuple[tuple[str | int, int], ...]:
    """Return the model's names of the features, with their positions in a batch of *columns*."""
    positions = {(column.name, column.dataType): n for n, column in enumerate(columns)}
    return tuple(
        (
            contract.names[feature.name],
            positions[contract.sources[feature.name], feature.dataType],
        )
        for feature in contract.features
    )


def bind_version(
    contract: Contract, features: tuple[tuple[str | int, int], ...]
) -> executor.Version:
    """Return the version that gives the expected values, with *features*: names and positions."""
    reference = contract.loadable.reference
    is_block = contract.takes == "array" and not contract.loadable.has_categories
    return replace(
        reference,
        mode="block" if is_block and reference.mode == "frame" else reference.mode,
        features=features,
        takes=contract.takes,
        shapes=contract.shapes,
        outputs=contract.results,
    )


def attempt(
    runner: Runner, version: executor.Version, contract: Contract, rows: pa.RecordBatch
) -> tuple[pa.Array, pa.Array]:
    """Return the predictions of *version*, null for rows that failed, and the reasons.

    Raises:
        ModuleMissing: the model imports a module that is not installed here.
        ScoringFailed: the model cannot be loaded, or its process ended.
        ResultUnfit: the predictions do not fit the model's signature.
        FeaturesLeftOut: the model fails on every row, perhaps because the table lacks optional
            features.
    """
    try:
        (predicted,), why = runner.call(executor.attempt, [version], rows)
    except ModuleNotFoundError as error:
        raise contract.loadable.explain_missing(error) from error
    except executor.Misshapen as error:
        raise ResultUnfit(version.uri, str(error)) from error
    except executor.ModelFailed as error:
        raise ScoringFailed(version.uri, "any row", str(error)) from error
    reasons = [row[0] for row in why.to_pylist() if row]
    unfit = [reason for reason in reasons if reason["type"] in UNFIT_ERRORS]
    truncated = [reason for reason in unfit if reason["type"] == executor.Truncated.__name__]
    if truncated or (unfit and predicted.null_count == rows.num_rows):
        raise ResultUnfit(version.uri, (truncated or unfit)[0]["message"])
    if contract.left_out and len(reasons) == rows.num_rows:
        first = reasons[0]
        reason = f"{first['type']}: {first['message'].strip()}"
        raise FeaturesLeftOut(version.uri, contract.left_out, reason)
    return predicted, why


def order_note(before: float) -> str:
    """Return the note for a plan's reason if predictions were put in order since *before*.

    Args:
        before: `executor.counted("aligned")` at that time.
    """
    if executor.counted("aligned") == before:
        return ""
    return "; predictions come with an index in another order, and lakescore orders them by it"
