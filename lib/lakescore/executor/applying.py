"""Applying: versions score a batch of rows, and set apart the rows that they cannot score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .bisecting import predict_rows
from .calling import predict_frame
from .delegating import (
    ask_process,
    end_process,
    predict_frame_in_process,
    predict_in_process,
)
from .families import Family
from .loading import Description, describe_model, loaded, unload
from .memory import give_back
from .version import output_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .version import Version

WHY = pa.struct([("version", pa.string()), ("type", pa.string()), ("message", pa.string())])
"""The reason why a version could not score a row, and the URI of the version."""
_NO_VERSION = ("NoVersion", "the row's segment has no model")


def attempt(
    versions: Sequence[Version | Family], batch: pa.RecordBatch
) -> tuple[list[pa.Array], pa.Array]:
    """Return the predictions of *versions*, null for rows that fail, and the reasons of failures.

    A batch that fails is halved until the rows at fault are isolated. If k of n rows fail, about
    2 k log n calls fail.

    Returns:
        The predictions of each of *versions*, and for each row a list of `WHY`, or null if all
        versions scored the row.

    Raises:
        ImportError, MemoryError: no row causes these.
        Misshapen: a version does not give one prediction a row for several rows.
        ModelFailed: the process of a version ended, or cannot load the version.
        SegmentUnknown: a family does not know the segment of a row.
    """
    inputs: dict[Any, Any] = {}
    predictions: list[pa.Array] = []
    reasons: dict[int, list[dict[str, str]]] = {}
    for version in versions:
        if isinstance(version, Family):
            column, failures = _apply_family(version, batch)
        else:
            column, failures = _apply_version(version, batch, inputs)
        predictions.append(column)
        for row, reason in failures.items():
            reasons.setdefault(row, []).append(dict(zip(WHY.names, reason, strict=True)))
    if not reasons:
        return predictions, pa.nulls(batch.num_rows, pa.list_(WHY))
    return predictions, pa.array(map(reasons.get, range(batch.num_rows)), pa.list_(WHY))


_Applied = tuple[pa.Array, dict[int, tuple[str, str, str]]]
"""Predictions, and the fields of `WHY` for each row that failed."""


def _apply_version(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> _Applied:
    if version.program is not None:
        column, failures = predict_in_process(version, batch)
    else:
        loaded(version)  # if the model cannot be loaded, that is no row's fault
        column, failures = predict_rows(version, batch, inputs)
    return column, {row: (version.uri, *reason) for row, reason in failures.items()}


def _apply_family(family: Family, batch: pa.RecordBatch) -> _Applied:
    """Return the predictions of the version of each row's segment, in the order of the rows."""
    pieces: list[pa.Array] = []
    places = np.empty(batch.num_rows, np.int64)
    failures: dict[int, tuple[str, str, str]] = {}
    total = 0
    for version, positions, rows in family.parts(batch):
        places[positions] = np.arange(total, total + len(positions))
        total += len(positions)
        if version is None:
            pieces.append(pa.nulls(len(positions), output_type(family.members[0].outputs)))
            failures |= dict.fromkeys(positions.tolist(), (str(family.uri), *_NO_VERSION))
            continue
        try:
            piece, failed = _apply_version(version, rows, {})
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}, for {version.uri}", name=error.name) from error
        pieces.append(piece)
        for row, (uri, kind, message) in failed.items():
            failure = (uri, kind, message)
            if family.uri is not None:
                failure = (family.uri, kind, f"{uri}: {message}")
            failures[int(positions[row])] = failure
    if not pieces:
        return pa.nulls(0, output_type(family.members[0].outputs)), {}
    return pa.concat_arrays(pieces).take(pa.array(places)), failures


def predicted(version: Version, frame: Any) -> pa.Array:
    """Return the predictions for a pandas *frame*, whose columns are the features by name.

    Raises:
        Misshapen: the predictions do not fit the signature.
        Exception: any error that the model raises.
    """
    if version.program is not None:
        return predict_frame_in_process(version, frame)
    return predict_frame(version, frame)


def describe(version: Version) -> Description:
    """Return the description of the scikit-learn model of *version*."""
    if version.program is None:
        return describe_model(version)
    return Description(**ask_process(version, ("model",)))


def release(version: Version) -> None:
    """Free the memory of *version* in this process; it is loaded again when it is needed.

    A process of a version that brings its own code keeps all its models.
    """
    if version.meeting:
        end_process(version)
    elif version.program is None:
        unload(version)
        give_back()
