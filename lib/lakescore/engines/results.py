"""Results: the columns that a pipeline of Spark ML gives, as columns of the signature's types.

NaN becomes null, as with the other engines, and a value that a cast would change is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
)

from lakescore import executor
from lakescore.engines.failures import OF_SPARK, ResultUnfit
from lakescore.loading import pipelines
from lakescore.signature import PREDICTION
from lakescore.slicing import RESERVED_PREFIX
from lakescore.wording import either, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from pyspark.ml import PipelineModel
    from pyspark.sql import Column
    from pyspark.sql.types import StructField, StructType

    from lakescore.signature import Contract

_FRACTIONS = (DoubleType, FloatType)
_NUMBERS = (*_FRACTIONS, ByteType, IntegerType, LongType, ShortType)
_ENDS: dict[type[DataType], float] = {IntegerType: 2.0**31, LongType: 2.0**63}
"""The first whole number that is too large for the type; the smallest is its negative."""
_EXACT: dict[type[DataType], int] = {FloatType: 2**24, DoubleType: 2**53}
"""The type holds all whole numbers up to this one."""
_WORDS: dict[type[DataType], str] = {IntegerType: "integer", LongType: "long"}


def predicted(contract: Contract, pipeline: PipelineModel, given: StructType) -> Column:
    """Return the prediction as a column of *given*, the columns of the pipeline's result.

    The column is a struct if the contract has several outputs.

    Raises:
        ResultUnfit: the pipeline does not give the outputs of the signature.
    """
    outputs, uri = contract.outputs, contract.loadable.model.uri
    if contract.loadable.classes:
        name = pipelines.find_classifier(uri, pipeline).getProbabilityCol()
        chances = _elements(F.col(f"`{name}`"))
        columns = [chances[n] for n in range(len(outputs))]
    else:
        sources = _sources(contract, pipeline, given)
        pairs = zip(sources, outputs, contract.results, strict=True)
        columns = [_output(uri, given[name], output, field) for name, output, field in pairs]
    if len(columns) == 1:
        return columns[0]
    return F.struct(*[c.alias(name) for c, name in zip(columns, outputs.names, strict=True)])


def _sources(contract: Contract, pipeline: PipelineModel, given: StructType) -> Sequence[str]:
    """Return the pipeline's columns that hold the outputs of the signature.

    A single output is a column that the pipeline adds: the one with the output's name, or else
    `prediction`, or else the last stage's output, as in MLflow.
    """
    uri, schema = contract.loadable.model.uri, contract.loadable.model.signature.outputs
    names = [str(name) for name in schema.input_names()] if schema.has_input_names() else []
    columns = [name for name in given.names if not name.startswith(RESERVED_PREFIX)]
    if len(contract.outputs) > 1:
        lacking = [name for name in names if name not in columns]
        if not names:
            reason = "its signature has outputs without names, and a pipeline names its columns"
            raise ResultUnfit(uri, reason, OF_SPARK)
    else:
        features = {str(name) for name in contract.names.values()}
        added = [name for name in columns if name not in features]
        last: Any = pipelines.list_stages(pipeline)[-1]
        usual = [last.getOrDefault("outputCol")] if last.hasParam("outputCol") else []
        lacking = [*names, PREDICTION]
        names = [name for name in [*lacking, *usual] if name in added][:1]
        columns, lacking = added, [] if names else lacking
    if lacking:
        reason = f"its pipeline gives the columns {listed(columns)}, and no {either(lacking)}"
        raise ResultUnfit(uri, reason, OF_SPARK)
    return names


def _output(uri: str, source: StructField, output: StructField, field: pa.Field) -> Column:
    """Return a column of the pipeline as an *output* of the signature.

    Args:
        uri: the version.
        source: the pipeline's column.
        output: the output.
        field: the same output, with what the signature says of it besides its type.

    Raises:
        ResultUnfit: the column has another kind of type.
    """
    column = _fitted(F.col(f"`{source.name}`"), source.dataType, output.dataType)
    if column is None:
        wanted, kind = _word(output.dataType), source.dataType.simpleString()
        reason = f"the signature says {wanted} and the pipeline's {source.name!r} is {kind}"
        raise ResultUnfit(uri, reason, OF_SPARK)
    if (width := (field.metadata or {}).get(executor.WIDTH)) is None:
        return column
    has, values = F.size(column), f"values in an array; its signature has {int(width)}"
    told = F.concat(F.lit("the model gave "), has.cast("string"), F.lit(f" {values}"))
    misfit = _raise_misfit(told)
    return F.when(column.isNull() | (has == int(width)), column).otherwise(misfit)


def _fitted(value: Column, has: DataType, wanted: DataType) -> Column | None:
    """Return *value*, of the type *has*, as the type *wanted*; None if it has another kind."""
    from pyspark.ml.linalg import VectorUDT  # noqa: PLC0415 - a second of import

    if isinstance(has, VectorUDT):
        return _elements(value) if wanted == ArrayType(DoubleType()) else None
    if isinstance(has, _FRACTIONS):
        value = F.nanvl(value, F.lit(None).cast(has))
    if has == wanted:
        return value if isinstance(has, (*_NUMBERS, BooleanType, StringType)) else None
    both_numbers = isinstance(has, _NUMBERS) and isinstance(wanted, _NUMBERS)
    return _cast(value, has, wanted) if both_numbers else None


def _elements(vector: Column) -> Column:
    """Return the numbers of a vector as a list."""
    from pyspark.ml.functions import vector_to_array  # noqa: PLC0415 - a second of import

    return F.transform(vector_to_array(vector), lambda x: F.nanvl(x, F.lit(None).cast("double")))


def _cast(value: Column, has: DataType, wanted: DataType) -> Column:
    """Return a number as another type; a number that the type cannot hold ends the query."""
    cast = value.cast(wanted)
    if isinstance(wanted, _FRACTIONS):
        most = _EXACT[type(wanted)]
        infinite = F.lit(float("inf"))
        fits = (
            (F.abs(value) == infinite) | (F.abs(cast) < infinite)
            if isinstance(has, _FRACTIONS)
            else value.between(-most, most)
        )
    else:
        fits = (value >= -_ENDS[type(wanted)]) & (value < _ENDS[type(wanted)])
        if isinstance(has, _FRACTIONS):
            fits &= F.rint(value) == value
    says = F.lit(f"the signature says {_word(wanted)} and the model gives ")
    misfit = _raise_misfit(F.concat(says, value.cast("string")))
    return F.when(value.isNull(), F.lit(None).cast(wanted)).when(fits, cast).otherwise(misfit)


def _raise_misfit(told: Column) -> Column:
    """Return a column that ends the query by the error that workers of other engines raise."""
    return F.raise_error(F.concat(F.lit(f"{executor.Misshapen.__name__}: "), told))


def _word(kind: DataType) -> str:
    return _WORDS.get(type(kind), kind.simpleString())
