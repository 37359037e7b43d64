"""Predictions for a DataFrame: pinned when the function is called, computed when a query runs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import ArrayType, DataType, MapType, StructType, TimestampType

from lakescore import assignment, console, lineage, loading, scoring, signature
from lakescore.config import Prediction, arguments
from lakescore.errors import ConfigError, InputContractError
from lakescore.job import explain, warn_without_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame

    from lakescore.registry import ModelVersion
    from lakescore.signature import Contract

_FRAME = "the DataFrame"
_ZONE = "spark.sql.session.timeZone"


class ZoneDiffers(InputContractError):
    """The session would show the model other times than a job does."""

    def __init__(self, column: str, zone: str) -> None:
        super().__init__(
            f"column {column!r} holds times, which a model reads in UTC, but the session's time "
            f"zone is {zone}, so the predictions could differ from those of a job; call "
            f"spark.conf.set('{_ZONE}', 'UTC') first"
        )


def predict(df: DataFrame, model: str, **settings: Any) -> DataFrame:  # noqa: ANN401 - as in a file
    """Return the rows of *df* with the predictions of one pinned model version.

    The version is resolved once, when this function is called, and its files are copied. An alias
    that moves afterwards changes nothing. The result has one row for each row of *df*, and each
    query predicts each row once. The function predicts a few rows, to check the model.

    Args:
        df: the rows. Columns with the names that the signature has become the features.
        model: a reference such as `flight-delay@champion`.
        settings: those of `lakescore schema score` that are about a model's inputs, outputs and
            loading (`columns`, `features`, `nulls`, `prediction`, `threshold`, `pyfunc`, `engine`,
            `env_manager`, `trust`), and these:
            `keep`: columns of *df* to return beside the prediction; default: all.
            `lineage`: whether to add the columns that name the version.
            `failing`: `raise` (the default): a row that cannot be scored ends the query; or
            `null`: its prediction is null, and the column `error` has the reason.

    Raises:
        LakescoreError: the settings, the reference or the columns are wrong, or the model cannot
            score any row.
    """
    wanted = arguments(Prediction, "lakescore.predict", {"model": model, **settings})
    with explained():
        check_frame(df)
        warn_without_policy(wanted.trust)
        pinned = assignment.pin(wanted.model, trust=wanted.trust)
        console.stage(str(pinned))
        (version,) = pinned.assign_segments(_FRAME, {}).models
        planned = plan(df, version, wanted)
        facts = _version_facts(version) if wanted.lineage else {}
        names = [*planned.keep, *planned.contract.written]
        signature.check_names(_FRAME, "result", names, beside=[*facts])
        scored = scoring.score(planned, failing=wanted.failing)
        columns = [F.lit(v).cast(lineage.kind_of(name)).alias(name) for name, v in facts.items()]
        return scored.select("*", *columns)


@contextmanager
def explained() -> Iterator[None]:
    """Raise every error of the body as a LakescoreError, which has one line."""
    try:
        yield
    except Exception as error:
        known = explain(error)
        if known is error:
            raise
        raise known from error


def plan(df: DataFrame, version: ModelVersion, wanted: Prediction) -> scoring.Plan:
    """Return the plan of the predictions of *version* for the rows of *df*.

    Raises:
        LakescoreError: the columns do not fit the signature, or the model cannot score any row.
    """
    keep = df.columns if wanted.keep is None else wanted.keep
    loadable = loading.prepare(version, None, wanted.loading)
    options = replace(wanted.binding, read=tuple(keep))
    contract = signature.bind(_FRAME, df, loadable, options=options)
    _check_zone(df, contract)
    planned = scoring.plan(wanted.engine, df, [contract], keep)
    console.stage(str(planned))
    return planned


def _version_facts(version: ModelVersion) -> dict[str, object]:
    assigned = assignment.assign_all(version)
    return {"model_name": assigned.name, **assigned.facts()}


def check_frame(df: object) -> None:
    """Check that *df* is a DataFrame of Spark, whose rows do not arrive one after another."""
    if not hasattr(df, "sparkSession"):
        raise ConfigError(
            f"lakescore.predict takes a DataFrame of Spark, and got {type(df).__name__}; make one "
            "with spark.createDataFrame"
        )
    if getattr(df, "isStreaming", False):
        raise ConfigError(
            "lakescore.predict takes a DataFrame with an end, and this one is a stream; call it in "
            "foreachBatch, for each batch of the stream"
        )


def _check_zone(df: DataFrame, contract: Contract) -> None:
    zone = str(df.sparkSession.conf.get(_ZONE))
    if zone == "UTC":
        return
    for feature in contract.features:
        column = contract.sources[feature.name]
        if _has_times(feature.dataType) or _has_times(df.schema[column].dataType):
            raise ZoneDiffers(column, zone)


def _has_times(kind: DataType) -> bool:
    """Return whether a session's time zone decides what values of this type are."""
    match kind:
        case ArrayType():
            return _has_times(kind.elementType)
        case MapType():
            return _has_times(kind.keyType) or _has_times(kind.valueType)
        case StructType():
            return any(_has_times(field.dataType) for field in kind)
    return isinstance(kind, TimestampType)
