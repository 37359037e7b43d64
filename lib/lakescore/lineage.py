"""Lineage: the version, input and run of a prediction, in its row, in the commit and in MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    DataType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lakescore.provenance import COLUMNS, VERSION_COLUMNS, CommitRecord, CommittedSlice, Pin
from lakescore.registry import experiment, patient
from lakescore.slicing import SLICE, WHOLE
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow.data.meta_dataset import MetaDataset
    from pyspark.sql import DataFrame

    from lakescore.assignment import Assignment
    from lakescore.snapshots import Snapshot

_ODD_IN_METRICS = re.compile(r"[^\w\-. :/]")
"""The characters that MLflow refuses in a metric's name."""
_KINDS = {
    "model_version": IntegerType(),
    "input_version": LongType(),
    "scored_at": TimestampType(),
}
"""The types of the columns that are not texts."""


def kind_of(name: str) -> DataType:
    """Return the type of the column *name* of `COLUMNS`."""
    return _KINDS.get(name, StringType())


@dataclass(frozen=True, kw_only=True)
class SliceRun:
    """One slice of one snapshot, scored by the versions that are assigned to its rows."""

    assigned: Assignment
    input_table: str
    input_version: int
    input_id: str
    """The id of the input table. Another table at the same address has another id."""
    slice: str
    fingerprint: str
    """The fingerprint of everything that decides the rows: equal fingerprints mean equal rows."""
    run_id: str
    """The id from the job's file, or the fingerprint. Never random, so a rerun is recognised."""
    settings: Mapping[str, Any]
    """All other settings that decide the written rows."""

    @property
    def version(self) -> int | None:
        """The number of the version that scores the slice; None if each segment has its own."""
        return self.assigned.models[0].version if self.assigned.by is None else None

    def fingerprint_of(self, source: Snapshot) -> str:
        """Return the fingerprint that the run would have with the input *source*."""
        settings = {"slice": self.slice, **self.settings}
        return _fingerprint(self.assigned.pins(self.slice), source, settings)


def plan_runs(
    assigned: Assignment,
    source: Snapshot,
    slice_names: Sequence[str],
    settings: Mapping[str, Any],
    *,
    run_id: str | None = None,
) -> list[SliceRun]:
    """Return one run for each slice; its id is *run_id*, or derived from the inputs without one.

    Args:
        assigned: the pinned versions; their digests count, not their references.
        source: the pinned input.
        slice_names: the slices.
        settings: all other settings that decide the written rows.
        run_id: an id from outside, such as a scheduler's.
    """
    runs = []
    for name in slice_names:
        inputs = _fingerprint(assigned.pins(name), source, {"slice": name, **settings})
        runs.append(
            SliceRun(
                assigned=assigned,
                input_table=source.address,
                input_version=source.version,
                input_id=source.table_id,
                slice=name,
                fingerprint=inputs,
                run_id=run_id or inputs,
                settings=settings,
            )
        )
    return runs


def remaining(runs: Sequence[SliceRun], settled: Sequence[SliceRun]) -> list[SliceRun]:
    """Return the *runs* whose slices are not among *settled*, in their order."""
    done = {run.slice for run in settled}
    return [run for run in runs if run.slice not in done]


def _fingerprint(pins: object, source: Snapshot, settings: Mapping[str, object]) -> str:
    """Return 16 hex digits, equal for equal versions, artifacts, input and settings."""
    inputs = {
        "models": pins,
        "input": [source.address, source.version, source.table_id],
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def comparison_columns(
    assigned: Iterable[Assignment],
    holdout: Snapshot,
    run_id: str | None,
    row_settings: Mapping[str, object],
    settings: Mapping[str, object],
) -> dict[str, Any]:
    """Return the columns that every row of a comparison's tables carries.

    They are `comparing_run_id` (*run_id*, or derived from versions, holdout and *settings*),
    `holdout_table`, `holdout_version`, `holdout_digest` (derived from the holdout and
    *row_settings*; equal if the same rows have the same weights) and `compared_at`.
    """
    pins = [pin for item in assigned for pin in _pins(item)]
    return {
        "comparing_run_id": run_id or _fingerprint(pins, holdout, settings),
        "holdout_table": holdout.address,
        "holdout_version": holdout.version,
        "holdout_digest": _fingerprint([], holdout, row_settings),
        "compared_at": now(),
    }


def _pins(assigned: Assignment) -> list[Any]:
    """Return the pins that decide the predictions of all rows; a family has one pin."""
    pins = assigned.pins(WHOLE)
    return [pins] if isinstance(pins, dict) else pins


def stamp(scored: DataFrame, runs: Sequence[SliceRun], *, scored_at: datetime) -> DataFrame:
    """Return *scored* without `SLICE`, and with `COLUMNS` after its other columns.

    Args:
        scored: keys, predictions and `SLICE`; also `VERSION_COLUMNS`, if each segment has its own
            version.
        runs: one for each slice in *scored*, all of one assignment and input.
        scored_at: the time for the column `scored_at`.
    """
    pairs = [F.lit(text) for run in runs for text in (run.slice, run.run_id)]
    facts = {
        **{name: F.lit(v).cast(kind_of(name)) for name, v in _common_facts(runs[0]).items()},
        **{name: F.col(name) for name in VERSION_COLUMNS if name in scored.columns},
        "slice": F.col(SLICE),
        "scoring_run_id": F.element_at(F.create_map(*pairs), F.col(SLICE)),
        "scored_at": F.lit(scored_at),
    }
    scored_columns = [
        F.col(f"`{name}`") for name in scored.columns if name not in {SLICE, *VERSION_COLUMNS}
    ]
    return scored.select(*scored_columns, *[facts[name].alias(name) for name in COLUMNS])


def stamped(scored: StructType, runs: Sequence[SliceRun]) -> StructType:
    """Return the columns of the frame that `stamp` makes from rows with the columns *scored*."""
    always = {name for name, value in _common_facts(runs[0]).items() if value is not None}
    scored_fields = [field for field in scored if field.name not in {SLICE, *VERSION_COLUMNS}]
    return StructType(
        scored_fields
        + [StructField(name, kind_of(name), name not in {*always, "scored_at"}) for name in COLUMNS]
    )


def carried(run: SliceRun, *, scored_at: datetime) -> dict[str, Any]:
    """Return the values that `stamp` adds to all rows of *run*, by column of `COLUMNS`."""
    slice_facts = {"slice": run.slice, "scoring_run_id": run.run_id, "scored_at": scored_at}
    return {**_common_facts(run), **slice_facts}


def commit_record(
    runs: Sequence[SliceRun], *, scored_at: datetime, quarantine: str | None
) -> CommitRecord:
    """Return the record that the Delta commit of *runs* keeps."""
    run, assigned = runs[0], runs[0].assigned
    return CommitRecord(
        model_name=assigned.name,
        model_reference=assigned.reference,
        pins=_commit_pins(runs),
        segment_by=assigned.by,
        version=assigned.facts() if assigned.by is None else {},
        input_table=run.input_table,
        input_version=run.input_version,
        input_id=run.input_id,
        settings=run.settings,
        scored_at=scored_at.isoformat(),
        slices=tuple(CommittedSlice(run.slice, run.run_id, run.fingerprint) for run in runs),
        quarantine=quarantine,
    )


def _commit_pins(runs: Sequence[SliceRun]) -> tuple[Pin, ...]:
    """Return the version of all rows of *runs*, or the versions of their segments."""
    assigned = runs[0].assigned
    if assigned.by is None:
        return (Pin(None, assigned.models[0].uri, assigned.models[0].digest),)
    segments = dict.fromkeys(name for run in runs for name in assigned.rows.get(run.slice, {}))
    models = [(name, assigned.model_of(name)) for name in segments]
    return tuple(
        Pin(name, None, None) if model is None else Pin(name, model.uri, model.digest)
        for name, model in models
    )


def place(runs: Sequence[SliceRun]) -> dict[str, list[str]]:
    """Return the partition columns of predictions, with their values in the rows of *runs*."""
    return {"model_name": [runs[0].assigned.name], "slice": [run.slice for run in runs]}


def _common_facts(run: SliceRun) -> dict[str, Any]:
    """Return the values that all rows of one commit share, by column.

    They do not contain the version, if each segment has its own.
    """
    return {
        "model_name": run.assigned.name,
        **(run.assigned.facts() if run.assigned.by is None else {}),
        "input_table": run.input_table,
        "input_version": run.input_version,
    }


def log_run(  # noqa: PLR0913 - all but the first by name
    experiment_name: str,
    context: str,
    source: Snapshot,
    report: Mapping[str, Any],
    *,
    digest: str | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    files: Sequence[Path] = (),
) -> str | None:
    """Log one MLflow run and return its id; None if that fails.

    The rows are published before, and carry their lineage themselves. So an error of MLflow does
    not fail the job. The function waits for a tracking store that restarts.

    Args:
        experiment_name: the experiment of the run, made if it is missing.
        context: the purpose for which *source* was read; the tag `mlflow.data.context` of the
            input dataset.
        source: the input dataset. Only its Delta source is logged, since `mlflow.data.load_delta`
            would count the whole table again for its profile.
        report: the receipt, logged as `receipt.json`; its numbers become metrics.
        digest: the digest of the rows that were read, if the snapshot does not decide them. Metrics
            with equal digests can be compared.
        metrics: by logged model, metrics that are logged on that model, with the dataset.
        files: further files to log.
    """
    import mlflow  # noqa: PLC0415 - seconds of import

    try:
        with (
            patient(),
            mlflow.start_run(
                experiment_id=experiment(experiment_name),
                run_name=f"lakescore {context}",
                tags=_tags(context, report),
                log_system_metrics=False,
            ) as run,
        ):
            dataset = _dataset(source, digest)
            mlflow.log_input(dataset, context=context)
            numbers = {k: float(v) for k, v in report.items() if isinstance(v, (int, float))}
            mlflow.log_metrics(numbers)
            for model_id, values in (metrics or {}).items():
                named = {_ODD_IN_METRICS.sub("_", name): v for name, v in values.items()}
                mlflow.log_metrics(named, model_id=model_id, dataset=dataset)
            mlflow.log_dict(dict(report), "receipt.json")
            for file in files:
                mlflow.log_artifact(str(file))
    except Exception as error:  # noqa: BLE001 - from MLflow, its store's client or a file's folder
        logging.getLogger(__name__).warning("cannot log the run in MLflow: %s", redact(str(error)))
        return None
    return str(run.info.run_id)


def _tags(context: str, report: Mapping[str, Any]) -> dict[str, str]:
    model = {f"model_{key}": value for key, value in report.get("model", {}).items()}
    return {f"lakescore.{key}": str(value) for key, value in {"context": context, **model}.items()}


def _dataset(source: Snapshot, digest: str | None) -> MetaDataset:
    from mlflow.data.delta_dataset_source import DeltaDatasetSource  # noqa: PLC0415
    from mlflow.data.meta_dataset import MetaDataset  # noqa: PLC0415

    by_path = "/" in source.address
    delta = DeltaDatasetSource(
        path=source.address if by_path else None,
        delta_table_name=None if by_path else source.address,
        # MLflow drops the number 0, so the version is passed as a text.
        delta_table_version=str(source.version),  # type: ignore[arg-type]
    )
    name = source.address.rstrip("/").rsplit("/", 1)[-1]
    if digest is None:
        digest = hashlib.sha256(
            f"{source.address}@{source.version}@{source.table_id}".encode()
        ).hexdigest()[:8]
    return MetaDataset(  # type: ignore[abstract]  # MLflow's own example makes one
        delta, name=f"{name}@v{source.version}", digest=digest
    )


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)
