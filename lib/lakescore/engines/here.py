"""Here: the predictions of the packages installed here, for a version that runs in its own.

They are computed for the rows of the probe, in another process, and only described: a version that
runs in its own environment is scored there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakescore import executor
from lakescore.engines import equality, probing
from lakescore.wording import counted, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql.types import StructField

    from lakescore.engines.plan import Request
    from lakescore.options import ScanName
    from lakescore.runner import Runner
    from lakescore.signature import Contract


def describe_differences(request: Request, scan: ScanName) -> Mapping[str, str]:
    """Return for each version in its own environment how the packages here differ, by URI.

    Versions of families are left out: there can be a thousand.
    """
    columns = request.feature_columns
    contracts = [
        side.contracts[0]
        for side in request.sides
        if side.family is None and side.contracts[0].loadable.environment is not None
    ]
    rows = probing.read_sample(request, columns, scan) if contracts else None
    if rows is None:
        return {}
    return {
        contract.loadable.model.uri: _describe_difference(request.runner, contract, columns, rows)
        for contract in contracts
    }


def _describe_difference(
    runner: Runner,
    contract: Contract,
    columns: tuple[StructField, ...],
    rows: pa.RecordBatch,
) -> str:
    own = equality.reference_version(contract, probing.feature_positions(contract, columns))
    expected, _ = probing.attempt(runner, own, contract, rows)
    # A process of its own: a pickle of another version of Python can end the process.
    here = replace(own, environment="", key=contract.loadable.key)
    try:
        (predicted,), _ = runner.call(executor.attempt, [here], rows)
    except (ImportError, MemoryError, executor.Misshapen, executor.ModelFailed) as error:
        return f"the packages installed here cannot apply it: {shortened(str(error))}"
    differing = sum(
        one != other
        for one, other in zip(_comparable(predicted), _comparable(expected), strict=True)
    )
    if not differing:
        return f"the packages installed here predict the same for {counted(len(rows), 'row')}"
    return (
        f"the packages installed here predict something else for {differing} of "
        f"{counted(len(rows), 'row')}{_largest_difference(predicted, expected)}"
    )


def _comparable(column: pa.Array) -> list[str]:
    """Return texts that are equal where values are the same, NaN included."""
    return [repr(value) for value in column.to_pylist()]


def _largest_difference(one: pa.Array, other: pa.Array) -> str:
    if not (pa.types.is_floating(one.type) or pa.types.is_integer(one.type)):
        return ""
    differences = np.abs(
        pc.subtract(one.cast(pa.float64()), other.cast(pa.float64())).to_numpy(zero_copy_only=False)
    )
    return f", by at most {np.nanmax(differences):.6g}" if np.isfinite(differences).any() else ""
