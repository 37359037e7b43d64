"""Quarantine: the table of the rows that a model could not score, with their errors."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow.compute as pc
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import StringType, StructField, StructType

from lakescore import lineage, scoring, signature, slicing, tables
from lakescore.arrow import frame
from lakescore.logs import NotEligible
from lakescore.provenance import ERROR_COLUMNS
from lakescore.publishing.published import find_snapshot
from lakescore.slicing import RESERVED_PREFIX, SLICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from pyspark.sql import DataFrame

    from lakescore.config import ScoreJob
    from lakescore.publishing.batch import Batch
    from lakescore.snapshots import Snapshot


class Quarantine:
    """The quarantine of a job, which need not exist yet.

    Raises:
        ColumnsCollide, ColumnsUnfit: the quarantine cannot hold its columns.
    """

    def __init__(self, config: ScoreJob, source: Snapshot) -> None:
        self._runner, self._config = source.runner, config
        columns = [*config.quarantine_columns_of(source.schema.names), *ERROR_COLUMNS]
        signature.check_names(source.address, "quarantine", columns)

    def replace(self, batch: Batch) -> dict[str, int]:
        """Replace the slices in the quarantine by their failed rows; return the counts by slice."""
        failed = batch.execution.failed_rows()
        if failed is None:
            self._clear(batch)
            return {}
        rows = self._keyed_errors(batch, failed)
        if self._config.quarantine_columns == "all":
            self._write_all_columns(batch, rows)
        else:
            self._write_keys(batch, rows)
        return dict(Counter(rows.column(SLICE).to_pylist()))

    def _clear(self, batch: Batch) -> None:
        """Remove rows that earlier runs quarantined."""
        address, runs = self._config.quarantine_address, batch.runs
        existing = find_snapshot(self._runner, address)
        where = lineage.place(runs)
        if existing is not None and slicing.tally(existing, ("slice",), where):
            tables.clear(self._runner, address, where=where, metadata={"slices": []})

    def _keyed_errors(self, batch: Batch, failed: pa.Table) -> pa.Table:
        """Return the keys of the *failed* rows, with their slices, errors and versions."""
        first_error = pc.list_element(failed.column(scoring.ERRORS), 0)
        keys = failed.select([*self._config.id_columns, SLICE])
        for part, name in zip(("type", "message"), ERROR_COLUMNS, strict=True):
            keys = keys.append_column(name, pc.struct_field(first_error, part))
        return batch.add_versions(keys, failed)

    def _write_all_columns(self, batch: Batch, keys: pa.Table) -> None:
        reason = "quarantine_columns: all reads the input again"
        failed_rows = frame(self._runner.start(reason), keys)
        version_columns = [field.name for field in batch.planned.version_columns]
        rows = _join_input(
            failed_rows, batch.planned.rows, self._config.id_columns, version_columns
        )
        tables.replace(
            lineage.stamp(rows, batch.runs, scored_at=batch.scored_at),
            self._config.quarantine_address,
            where=lineage.place(batch.runs),
            metadata=batch.metadata,
            find_by=self._config.id_columns,
        )

    def _write_keys(self, batch: Batch, keys: pa.Table) -> None:
        with tables.begin(
            self._runner,
            self._columns(batch),
            self._config.quarantine_address,
            where=lineage.place(batch.runs),
            metadata=batch.metadata,
            find_by=self._config.id_columns,
        ) as written:
            try:
                written.put(keys, batch.constants, SLICE)
            except NotEligible as not_eligible:
                reason = f"Spark quarantines rows: {not_eligible}"
                failed_rows = frame(self._runner.start(reason), keys)
                written.write(lineage.stamp(failed_rows, batch.runs, scored_at=batch.scored_at))
            written.commit()

    def _columns(self, batch: Batch) -> StructType:
        """Return the columns of a quarantine of keys."""
        schema = batch.planned.schema
        keys = [StructField(name, schema[name].dataType) for name in self._config.id_columns]
        errors = [StructField(name, StringType()) for name in ERROR_COLUMNS]
        fields = [*keys, *errors, *batch.planned.version_columns]
        return lineage.stamped(StructType(fields), batch.runs)


def _join_input(
    failed: DataFrame, rows: DataFrame, keys: Sequence[str], more: Sequence[str]
) -> DataFrame:
    """Return *failed* with all columns of the input's *rows*, which are read again.

    The columns of errors and *more* come from *failed*.
    """
    columns, failed_columns = [*keys, SLICE], [*ERROR_COLUMNS, *more]
    failed_keys = failed.dropDuplicates(columns).select(
        *[F.col(f"`{name}`").alias(f"{RESERVED_PREFIX}k{n}") for n, name in enumerate(columns)],
        *failed_columns,
    )
    equal = [
        F.col(f"`{name}`").eqNullSafe(F.col(f"{RESERVED_PREFIX}k{n}"))
        for n, name in enumerate(columns)
    ]
    names = [F.col(f"`{name}`") for name in rows.columns]
    return rows.join(F.broadcast(failed_keys), reduce(and_, equal)).select(*names, *failed_columns)
