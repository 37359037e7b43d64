"""Scoring: apply pinned versions to rows, and return the predictions as columns.

Two engines give the same values. `spark_udf` is MLflow's own function: the reference, for every
flavour. `arrow` passes Arrow batches to the model, loads it once a worker process, and applies
several versions in one pass. `plan` chooses it only if a probe of real rows gives equal values.
Its workers read the table's files themselves if `scanning` allows it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from lakescore import (
    classic,
    environment,
    executor,
    lineage,
    scanning,
    signature,
    storage,
    wrapping,
)
from lakescore.arrow import arrow_type, collected, legible, readable, struct
from lakescore.errors import (
    EngineRefused,
    FeaturesLeftOut,
    LakescoreError,
    ResultUnfit,
    ScoringFailed,
)
from lakescore.filing import FilesUnwritten, Place
from lakescore.logs import NotEligible
from lakescore.provenance import VERSION_COLUMNS
from lakescore.runner import FAILURES, Runner
from lakescore.signature import Binding
from lakescore.slicing import RESERVED_PREFIX, SLICE
from lakescore.storage import StorageFull
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.assignment import Assignment
    from lakescore.options import EngineName, ScanName
    from lakescore.signature import Contract

ERRORS = f"{RESERVED_PREFIX}errors"
"""The column with the errors of the versions that could not score a row."""
SAID = executor.SAID
"""The column of `tried` that holds the reports of tasks."""
_ERROR = "error"
"""The column of `score` with the reason why a row could not be scored."""
_PREDICTED = f"{RESERVED_PREFIX}p"
"""The prefix of the column of a version's prediction; the version's number follows."""
_UNFIT_ERRORS = {executor.Misshapen.__name__, executor.Truncated.__name__}
"""The types of errors of predictions that do not fit the signature."""
_LOST_TASK = re.compile(r"Lost task .*?\(TID \d+\).*?: (?:[\w.$]+: )?(.+)")
"""Spark's reason for a lost task. It is used without a trace of Python: if a worker died."""
_WORKER_LOST = re.compile(r"^(a worker (?:was ended|ended) .+)")
_UNFIT_LINE = re.compile(rf"\b(?:{'|'.join(sorted(_UNFIT_ERRORS))}): (.+)")
_OWN_PROCESS = re.compile(rf"^.*\b{executor.ModelFailed.__name__}: ")
"""The start of an error of a model that runs in a separate process."""
_OUT_OF_BOUNDS = re.compile(r"out of bounds (?:nanosecond )?timestamp", re.IGNORECASE)
_TIMES_OF_PANDAS = ("1677-09-21 00:12:44", "2262-04-11 23:47:16")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'(?:, for (models:/\S+))?")
_UNWRITTEN = re.compile(rf"\b{executor.Unwritten.__name__}: (.+)")
_SHOWN_COLUMN = "model_uri"
"""The column that names the version of a row to people, if each segment has its own version."""
_REQUESTED = "asked for"
_PROBE_ROWS = 200
_HOPELESS_ROWS = 100
"""If this many rows fail, and no row succeeds, the model is at fault."""
_SEGMENTS_PROBED = 20
_PROBE_REPEATS = 10
"""The repetitions of the probe that measure the cost of a row."""
_EXACT_MODULES = ("sklearn.tree", "sklearn.ensemble", "sklearn.dummy")
_TIME_TYPES = (TimestampNTZType, TimestampType)
_FEATURE_TYPES = (
    BinaryType,
    BooleanType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    *_TIME_TYPES,
)
"""The types that Arrow and MLflow's function turn into the same pandas values, times in UTC."""
_ZONE_SETTING = "spark.sql.session.timeZone"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How versions are applied to rows. It is fixed before any row is scored."""

    engine: Literal["arrow", "spark_udf"]
    reason: str
    source: DataFrame | scanning.Selection
    """The rows to score: a frame that Spark reads, or a selection of a snapshot."""
    keep: tuple[str, ...]
    """The columns of `rows` that the result has beside the predictions."""
    sides: tuple[Binding, ...]
    """One for each column of predictions: a version, or a family with a version a segment."""
    shown_family: Assignment | None = None
    """The family of the only side, if each row must name the version that scored it."""
    direct: scanning.Direct | None = None
    """The files that workers read themselves, if they do."""
    scan_reason: str = ""
    """The reason if workers do not read the files."""
    versions: tuple[executor.Version | executor.Family, ...] = ()
    """For workers of the arrow engine, one a side; positions count from the first feature."""
    columns: tuple[StructField, ...] = ()
    """The features that the arrow engine sends: one column for each feature and type."""
    spread: int | None = None
    """The number of partitions into which Spark spreads the rows first, if Spark reads them."""
    totals: executor.TaskTotals = field(default_factory=executor.TaskTotals, compare=False)
    """The totals of the reports of the arrow engine's workers."""

    @property
    def selection(self) -> scanning.Selection | None:
        """The selection of a snapshot, if the source is one."""
        return self.source if isinstance(self.source, scanning.Selection) else None

    @cached_property
    def rows(self) -> DataFrame:
        """The rows to score, as Spark reads them."""
        return self.source.rows if isinstance(self.source, scanning.Selection) else self.source

    @property
    def schema(self) -> StructType:
        """The columns of the rows."""
        return self.source.schema

    @property
    def runner(self) -> Runner:
        """The runner of the tasks."""
        if isinstance(self.source, scanning.Selection):
            return self.source.runner
        return Runner.of(self.source.sparkSession)

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """The contracts of all versions, in the order of the sides."""
        return tuple(contract for side in self.sides for contract in side.contracts)

    @property
    def uris(self) -> list[str]:
        """The names of the columns of predictions: URIs of versions, or names of families."""
        return [side.uri for side in self.sides]

    @property
    def has_families(self) -> bool:
        """Whether a column of predictions comes from a family, with a version a segment."""
        return any(side.family for side in self.sides)

    @property
    def contract(self) -> Contract:
        """The contract of the only side. All versions of a family give the same columns."""
        if len(self.sides) > 1:
            raise TypeError("several versions score each row")
        return self.contracts[0]

    @property
    def version_columns(self) -> list[StructField]:
        """The columns that name the version of a row, if each segment has its own version."""
        if self.shown_family is None:
            return []
        return [StructField(name, lineage.kind_of(name)) for name in VERSION_COLUMNS]

    @property
    def decisive(self) -> list[str]:
        """The columns of predictions, and the column of the version if segments have their own."""
        version_names = [
            field.name for field in self.version_columns if field.name == _SHOWN_COLUMN
        ]
        return [*self.contract.written, *version_names]

    @property
    def output_columns(self) -> list[StructField]:
        """The columns of `tried`, except `SAID`."""
        contract = self.contract
        kept = [StructField(name, self.schema[name].dataType) for name in self.keep]
        outputs = [StructField(output.name, output.dataType) for output in contract.outputs]
        if (decision := contract.decision) is not None:
            outputs.append(StructField(signature.DECISION, _decision_type(decision.below)))
        return [*kept, *outputs, *self.version_columns]

    @property
    def isolated(self) -> dict[str, str]:
        """The versions that run in separate processes, and the code that makes it necessary."""
        loadables = [contract.loadable for contract in self.contracts]
        return {
            loadable.model.uri: loadable.own_code
            for loadable in loadables
            if loadable.own_code is not None
        }

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that workers of the arrow engine keep before the predictions."""
        return self.direct.carried if self.direct is not None else self.keep

    @property
    def slice_at(self) -> int | None:
        """The position in `carried` of the column that names a row's slice, if there is one."""
        name = self.direct.selection.column if self.direct is not None else SLICE
        return self.carried.index(name) if name in self.carried else None

    @property
    def sent(self) -> list[DataType]:
        """The types of the columns that Spark sends to workers, except the slice's name.

        That name is also the name of a folder of the output, so it is short.
        """
        kept = [self.schema[name].dataType for name in self.keep if name != SLICE]
        return [*kept, *[column.dataType for column in self.columns]]

    @property
    def tasks(self) -> int:
        """The number of tasks that score the rows."""
        if self.direct is not None:
            return len(self.direct.scan.tasks)
        return self.spread or classic.tasks(self.rows)

    def __str__(self) -> str:
        """Return one line with the choices and their reasons."""
        line = f"engine {self.engine}: {self.reason}"
        if self.engine == "spark_udf":
            return line
        if self.direct is not None:
            return f"{line}; workers read the files, in {len(self.direct.scan.tasks)} tasks"
        spread = f", spread over {self.spread} partitions" if self.spread else ""
        return f"{line}; Spark reads them ({self.scan_reason}){spread}"

    def facts(self) -> dict[str, Any]:
        """Return the choices for the receipt, with the work that workers reported so far.

        The engine spark_udf does not count loads and workers.
        """
        facts: dict[str, Any] = {"name": self.engine, "reason": self.reason}
        if self.engine == "spark_udf":
            return facts
        modes = [version.mode for version in _list_members(self.versions)]
        facts["modes"] = sorted(set(modes)) if self.has_families else modes
        facts["own_processes"] = self.isolated
        facts["scan"] = "direct" if self.direct else "spark"
        if self.direct:
            facts |= {"tasks": len(self.direct.scan.tasks), "bytes_read": self.direct.size}
        else:
            facts["scan_reason"] = self.scan_reason
            facts["spread"] = self.spread
        done = self.totals
        return facts | {
            "rows_predicted": done.rows,
            "rows_aligned": done.aligned,
            "loads": done.loads,
            "workers": len(done.workers),
        }

    def batches(self, rows: int) -> int:
        """Return the estimated number of batches for which a version is called, if none fails.

        For batches that Spark makes, the estimate assumes that *rows* are spread evenly over the
        tasks.
        """
        if self.direct is not None:
            return self.direct.batches
        tasks = max(1, min(rows, self.tasks))
        # If Spark filters or spreads rows, they no longer come in the batches that it reads.
        by = self.selection.column if self.selection is not None else SLICE
        is_passed_on = (
            self.engine == "spark_udf"
            and _passes_batches_on(self.runner.spark.version)
            and (by is None or self._is_divided_by(by))
        )
        limit = (
            "parquet.columnarReaderBatchSize"
            if is_passed_on
            else "execution.arrow.maxRecordsPerBatch"
        )
        most = int(self.runner.setting(f"spark.sql.{limit}") or 0)
        share = math.ceil(rows / tasks)
        return tasks * math.ceil(share / most) if most > 0 else tasks

    def _is_divided_by(self, column: str) -> bool:
        try:
            return self.selection is not None and column in self.selection.log.partitioned_by
        except NotEligible:
            return False

    @property
    def failed(self) -> int:
        """The number of failed rows that tasks reported."""
        return self.totals.failed

    def first_errors(self) -> list[str]:
        """Return the distinct types and messages of the errors of listed failed rows, sorted.

        The same rows give the same messages. The list is empty if no row failed.
        """
        failed = self.totals.listed()
        if failed is None:
            return []
        reasons = [why[0] for why in failed.column("why").to_pylist()]
        return sorted({f"{reason['type']}: {reason['message']}" for reason in reasons})

    def set_aside(self) -> pa.Table | None:
        """Return the failed rows that tasks reported: the kept columns and `ERRORS`.

        If there are too many to list, only a few are returned. `failed` counts all of them.
        """
        failed = self.totals.listed()
        if failed is None:
            return None
        rows = failed.rename_columns([*self.carried, ERRORS])
        return rows if self.direct is None else scanning.named(rows, self.direct, self.keep)

    @property
    def is_here(self) -> bool:
        """Whether workers of this machine read and score the rows without Spark."""
        return self.direct is not None and not self.runner.is_started

    def heard(self, rows: DataFrame) -> DataFrame:
        """Return *rows* of `tried` without task reports; add them up. The rows must be cached."""
        if SAID not in rows.columns:
            return rows
        reports = rows.where(F.col(SAID).isNotNull()).select(SAID)
        self.totals.add(bytes(row[0]) for row in reports.collect())
        return rows.where(F.col(SAID).isNull()).drop(SAID)

    def places(self) -> dict[str, Place]:
        """Return the places of `score`'s columns in the batches of the arrow engine's workers.

        Raises:
            NotEligible: the engine is MLflow's own function.
        """
        if self.engine != "arrow":
            raise NotEligible(f"the engine is {self.engine}")
        contract = self.contract
        places = {name: Place(n) for n, name in enumerate(self.carried)}
        names, last = contract.outputs.names, len(self.carried)
        for n, name in enumerate(names):
            places[name] = Place(last, n if len(names) > 1 else None)
        if (decision := contract.decision) is not None:
            by = executor.Decided(
                threshold=decision.threshold, below=decision.below, reached=decision.reached
            )
            places[signature.DECISION] = replace(places[decision.score], decided=by)
        for n, field_ in enumerate(self.version_columns):
            places[field_.name] = Place(last + 1 + n)
        return places


def _passes_batches_on(version: str) -> bool:
    """Return whether Spark of *version* passes the batches of a reader to Python unchanged.

    Tested with 3.5.9, 4.0.5 and 4.1.4, which do not, and with 4.2.0, which does.
    """
    return tuple(int(part) for part in version.split(".")[:2]) >= (4, 2)


def plan(
    engine: EngineName,
    rows: DataFrame | scanning.Selection,
    binding: Binding | Sequence[Contract | Binding],
    keep: Sequence[str],
    scan: ScanName = "direct",
) -> Plan:
    """Plan how versions are applied to *rows*; score a few rows as a probe.

    Args:
        engine: the requested engine; `auto` is arrow if arrow gives MLflow's values.
        rows: the rows to score. Workers can read only a selection of a snapshot directly.
        binding: for each column of predictions, a version, or a family whose segments a column of
            *keep* names. If a single binding of a family is passed, and not a sequence, each row
            names the version that scored it.
        keep: columns of *rows* that the result must have beside the predictions.
        scan: `direct` lets workers read the files if they get exactly the rows that Spark reads.

    Raises:
        EngineRefused: the arrow engine is requested, but would not give MLflow's values; or the
            engine is spark_udf, and the job's rules for nulls need arrow.
        ScoringFailed: every row of the probe fails, so the model is at fault; or one row fails and
            the engine is spark_udf, which cannot quarantine it.
        ModuleMissing: a model imports a module that is not installed here.
        FeaturesLeftOut: a model fails on every row, perhaps because the table lacks optional
            features.
        ResultUnfit: the predictions of a version do not fit its signature.
    """
    alone = isinstance(binding, Binding)
    bindings = [binding] if isinstance(binding, Binding) else binding
    sides = [side if isinstance(side, Binding) else Binding((side,)) for side in bindings]
    udf = Plan(
        engine="spark_udf",
        reason=_REQUESTED,
        source=rows,
        keep=tuple(keep),
        sides=tuple(sides),
        shown_family=sides[0].family if alone else None,
    )
    runner = udf.runner
    if engine == "spark_udf":
        runner.start("engine spark_udf needs Spark")
        return _probe_udf(_check_null_rules(udf))
    try:
        arrow, seconds_a_row = _plan_arrow(udf, scan)
    except _NotEligible as not_eligible:
        if engine == "arrow" or udf.has_families:
            raise EngineRefused("arrow", str(not_eligible)) from not_eligible
        checked = _check_null_rules(replace(udf, reason=str(not_eligible)))
        runner.start(
            f"engine spark_udf needs Spark, and engine arrow cannot be used: {not_eligible}"
        )
        return _probe_udf(checked)
    if udf.selection is not None and scan == "direct":
        try:
            direct = scanning.direct(
                udf.selection, keep, arrow.columns, seconds_a_row=seconds_a_row
            )
            runner.choose(direct.rows * seconds_a_row)
            return replace(arrow, direct=direct)
        except NotEligible as not_eligible:
            scan_reason = str(not_eligible)
    else:
        scan_reason = "asked for" if udf.selection else "the rows are not a snapshot's"
    runner.start(f"Spark reads the rows: {scan_reason}")
    spread = scanning.spread(udf.rows, seconds_a_row=seconds_a_row, selection=udf.selection)
    return replace(arrow, scan_reason=scan_reason, spread=spread)


def _check_null_rules(udf: Plan) -> Plan:
    """Return *udf* if no rule for nulls keeps rows from the model; spark_udf cannot do that."""
    refused = {
        name: rule
        for contract in udf.contracts
        for name, rule in contract.nulls.items()
        if rule in {"null", "quarantine"} and rule == contract.asked_nulls.get(name)
    }
    if refused:
        rules = listed(f"{name}: {rule}" for name, rule in refused.items())
        reason = f"it passes every row to the model, but nulls asks for {rules}"
        if udf.reason == _REQUESTED:
            raise EngineRefused(
                "spark_udf", reason, "give engine=auto, or leave these out of nulls"
            )
        raise EngineRefused(
            "spark_udf",
            f"{reason}; engine arrow cannot be used: {udf.reason}",
            "leave these out of nulls",
        )
    return udf


def _probe_udf(udf: Plan) -> Plan:
    """Return *udf* after a probe of a few rows, without which each failing task would be retried.

    Raises:
        ScoringFailed: a version could not score a row, and the engine cannot quarantine it.
        ModuleMissing, ResultUnfit, FeaturesLeftOut: no row could be scored.
    """
    columns = _feature_columns(udf.contracts)
    managers = {contract.loadable.env_manager for contract in udf.contracts}
    if managers != {"local"} or _find_refusal(udf.runner, columns):
        few = replace(udf, source=udf.rows.limit(_PROBE_ROWS).coalesce(1))
        with evaluated(few, [f"the first {_PROBE_ROWS} rows"]):
            side_by_side(few).collect()
        return udf
    try:
        sample = _read_sample(udf, columns)
    except _NotEligible:  # there are no rows
        return udf
    aligned = executor.counted("aligned")
    for contract in udf.contracts:
        version = _bind_version(contract, _feature_positions(contract, columns))
        _, why = _attempt(udf.runner, version, contract, sample)
        if why.null_count < len(why):
            first = why.drop_null()[0].as_py()[0]
            raise ScoringFailed(
                version.uri,
                "a row, and engine spark_udf quarantines none",
                f"{first['type']}: {first['message']}",
            )
    return replace(udf, reason=udf.reason + _order_note(aligned))


def _order_note(before: float) -> str:
    """Return the note for a plan's reason if predictions were put in order since *before*."""
    if executor.counted("aligned") == before:
        return ""
    return "; predictions come with an index in another order, and lakescore orders them by it"


def _attempt(
    runner: Runner, version: executor.Version, contract: Contract, rows: pa.RecordBatch
) -> tuple[pa.Array, pa.Array]:
    """Return the predictions of *version*, null for rows that failed, and the reasons.

    The predictions are made in the driver, or in a worker of this machine if these run the tasks.

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
        raise environment.missing(version.uri, contract.loadable.folder, error) from error
    except executor.Misshapen as error:
        raise ResultUnfit(version.uri, str(error)) from error
    except executor.ModelFailed as error:
        raise ScoringFailed(version.uri, "any row", str(error)) from error
    reasons = [row[0] for row in why.to_pylist() if row]
    unfit = [reason for reason in reasons if reason["type"] in _UNFIT_ERRORS]
    truncated = [reason for reason in unfit if reason["type"] == executor.Truncated.__name__]
    if truncated or (unfit and predicted.null_count == rows.num_rows):
        raise ResultUnfit(version.uri, (truncated or unfit)[0]["message"])
    if contract.left_out and len(reasons) == rows.num_rows:
        first = reasons[0]
        reason = f"{first['type']}: {first['message'].strip()}"
        raise FeaturesLeftOut(version.uri, contract.left_out, reason)
    return predicted, why


def score(planned: Plan, *, failing: Literal["raise", "null"] = "raise") -> DataFrame:
    """Return the columns that *planned* keeps, and the outputs of its only version.

    The result has one row for each row of the plan, and each row is predicted once.

    Args:
        planned: the plan.
        failing: how to treat rows that the model cannot score. `raise`: the first one ends the
            query. `null`: their outputs are null, and a last column, `error`, has the reason.
            MLflow's own function always ends the query.

    Raises:
        ColumnsCollide: the rows already have a column `error`.
    """
    return _select_outputs(planned, _apply(planned, failing), says_why=failing == "null")


def tried(planned: Plan) -> DataFrame:
    """Return the result of `score` for the rows that could be scored, and task reports in `SAID`.

    Each task adds a last row. There `SAID` holds the report of the task, with its work and the rows
    that it could not score, and all other columns are null. In all other rows `SAID` is null.
    `Plan.heard` reads the reports. MLflow's own function quarantines no row and its tasks do not
    report, so the result then has no such column.
    """
    return _select_outputs(planned, _apply(planned, "aside"), says_why=False)


@contextmanager
def cached(planned: Plan) -> Iterator[DataFrame | pa.Table]:
    """Cache the result of `tried` to read it several times, and add up the task reports.

    Yields:
        The rows that could be scored: a frame; or a table of `Plan.keep` and `Plan.decisive`, if
        workers of this machine score them.
    """
    if planned.is_here:
        yield _score_here(planned)
        return
    kept = tried(planned).persist(StorageLevel.DISK_ONLY)
    try:
        yield planned.heard(kept)
    finally:
        kept.unpersist()


def _select_outputs(planned: Plan, applied: DataFrame, *, says_why: bool) -> DataFrame:
    contract = planned.contract
    names = contract.outputs.names
    kept = [F.col(f"`{name}`") for name in planned.keep]
    predicted = F.col(f"{_PREDICTED}0")
    values = [predicted] if len(names) == 1 else [predicted[name] for name in names]
    outputs = dict(zip(names, values, strict=True))
    if contract.decision is not None:
        outputs[signature.DECISION] = _decision_column(contract.decision, outputs)
    columns = [*kept, *[output.alias(name) for name, output in outputs.items()]]
    columns += [F.col(field.name) for field in planned.version_columns]
    if says_why:
        signature.check_names("the rows", "output", [*planned.keep, *outputs, _ERROR])
        columns.append(_first_error(applied).alias(_ERROR))
    if SAID in applied.columns:
        columns.append(F.col(SAID))
    return applied.select(*columns)


def file(planned: Plan, sink: executor.Sink) -> list[dict[str, Any]]:
    """Let workers write the rows that could be scored; return the files, as `executor.FILES`.

    Raises:
        StorageFull, FilesUnwritten: workers cannot write into the sink's folder.
    """
    try:
        if planned.direct is None:
            files = collected(_map_in_arrow(planned, struct(executor.FILES), "aside", sink=sink))
        else:
            make_task, tasks = (
                _make_predictor(planned, "aside", says=True, sink=sink),
                planned.tasks,
            )
            files = planned.runner.run(make_task, tasks, executor.FILES)
        return list(files.to_pylist())
    except FAILURES as error:
        unwritten = _UNWRITTEN.search(str(error))
        if unwritten is None:
            raise
        if os.strerror(errno.ENOSPC) in unwritten[1]:
            raise StorageFull(sink.folder) from error
        raise FilesUnwritten(sink.folder, unwritten[1]) from error


def probe(planned: Plan, most: int = 100) -> list[dict[str, Any]]:
    """Return at most *most* of the rows that the job would write; score them separately."""
    if planned.direct is not None:
        return _probe_here(planned, planned.direct, most)
    few = planned.rows.limit(most)
    apart = replace(planned, source=few, spread=None, totals=executor.TaskTotals())
    scored = tried(apart)
    if SAID in scored.columns:
        scored = scored.where(F.col(SAID).isNull()).drop(SAID)
    hidden = [field.name for field in planned.version_columns if field.name != _SHOWN_COLUMN]
    shown = readable(scored.drop(*hidden)).withColumnRenamed(SLICE, "slice")
    return [row.asDict() for row in shown.collect()]


def _probe_here(planned: Plan, direct: scanning.Direct, most: int) -> list[dict[str, Any]]:
    """Return the result of `probe` for rows that are read without Spark."""
    columns = _worker_columns(planned, direct)
    short = scanning.shortened(direct.scan, most)
    for scan in (short, direct.scan):
        make_task = partial(
            executor.predictor,
            _place_versions(planned, len(planned.carried), here=True),
            kept=len(planned.carried),
            scan=scan,
            tells=_member_facts(planned),
            failing="aside",
        )
        batches = planned.runner.call(executor.few, make_task, len(scan.tasks), most, columns)
        if sum(batch.num_rows for batch in batches) >= most or short == direct.scan:
            break
    if not batches:
        return []
    rows = scanning.named(pa.Table.from_batches(batches), direct, planned.keep)
    names = ["slice" if name == SLICE else name for name in planned.keep]
    return list(legible(rows.rename_columns([*names, *planned.decisive])).to_pylist())


def _worker_columns(planned: Plan, direct: scanning.Direct) -> list[executor.OutputColumn]:
    """Return the columns that workers carry, then `Plan.decisive` under names of lakescore.

    The names are needed because an output can have the name of the column that names the slice.
    """
    places = planned.places()
    kinds = {field.name: arrow_type(field.dataType) for field in planned.output_columns}
    return [
        *[
            executor.OutputColumn(name=field.name, kind=arrow_type(field.dataType), position=n)
            for n, field in enumerate(direct.fields)
        ],
        *[
            executor.OutputColumn(
                name=f"{RESERVED_PREFIX}o{n}", kind=kinds[name], **vars(places[name])
            )
            for n, name in enumerate(planned.decisive)
        ],
    ]


def _score_here(planned: Plan) -> pa.Table:
    """Return `Plan.keep` and `Plan.decisive` of `tried`, from workers of this machine.

    The workers read the files, and the task reports are added up.
    """
    direct = planned.direct
    assert direct is not None  # noqa: S101 - narrows for mypy
    columns = _worker_columns(planned, direct)
    says = len(planned.carried) + 1 + len(planned.version_columns)
    columns.append(executor.OutputColumn(name=SAID, kind=pa.binary(), position=says))
    make_task = _make_predictor(planned, "aside", says=True, sink=None)
    schema = pa.schema([(column.name, column.kind) for column in columns])
    rows = _run_here(planned, partial(executor.narrowed, make_task, columns), schema)
    named = scanning.named(rows, direct, planned.keep)
    return named.rename_columns([*planned.keep, *planned.decisive])


def _run_here(planned: Plan, make_task: Callable[[], executor.Task], schema: pa.Schema) -> pa.Table:
    """Run tasks on workers of this machine; return the rows, and add up the task reports."""
    rows = planned.runner.run(make_task, planned.tasks, schema)
    reports = rows.column(SAID)
    planned.totals.add(bytes(report) for report in reports.drop_null().to_pylist())
    return rows.filter(reports.is_null()).drop_columns([SAID])


def side_by_side(planned: Plan, *, says: bool = False) -> DataFrame:
    """Return the columns that *planned* keeps, one column a version, and `ERRORS`.

    If *says* is true, `SAID` comes last, as in `tried`, unless the engine is spark_udf.

    A version's column has the version's URI as its name. It holds the prediction, or a struct if
    the version has several outputs, and is null if the version could not score the row. `ERRORS`
    is a list of structs of version, type and message; null if all versions could score the row.
    """
    renamed = {f"{_PREDICTED}{n}": uri for n, uri in enumerate(planned.uris)}
    applied = _apply(planned, "null", says=says).withColumnsRenamed(renamed)
    if planned.engine == "spark_udf":
        kind = "array<struct<version: string, type: string, message: string>>"
        return applied.withColumn(ERRORS, F.lit(None).cast(kind))
    return applied


def side_of(planned: Plan) -> StructType:
    """Return the columns of `side_by_side`, except `ERRORS` and `SAID`."""
    kept = [planned.schema[name] for name in planned.keep]
    kinds = zip(planned.uris, _result_types(planned), strict=True)
    return StructType([*kept, *[StructField(uri, kind) for uri, kind in kinds]])


def places_of(planned: Plan) -> dict[str, int]:
    """Return, by name, the positions of `side_by_side`'s columns in workers that read files."""
    direct, kept = planned.direct, len(planned.carried)
    assert direct is not None  # noqa: S101 - narrows for mypy
    places = {name: n for n, name in enumerate(planned.carried)}
    if direct.selection.column is not None:
        places[direct.selection.adds.name] = places[direct.selection.column]
    names = [*planned.uris, ERRORS, SAID]
    return places | {name: kept + n for n, name in enumerate(names)}


def side_by_side_here(
    planned: Plan, make_next: Callable[[int], executor.Task], schema: pa.Schema
) -> pa.Table:
    """Apply further tasks to the result of `side_by_side`, on workers of this machine.

    Args:
        planned: a plan whose workers read the files.
        make_next: makes, from a task's number, the function for the batches of that task. The
            reports of tasks in `SAID` are added up.
        schema: the schema of that function's result.
    """
    make_task = partial(
        _chain_tasks, _make_predictor(planned, "null", says=True, sink=None), make_next
    )
    return _run_here(planned, make_task, schema)


def _chain_tasks(
    make_first: Callable[[], executor.Task], make_next: Callable[[int], executor.Task]
) -> executor.Task:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row, number in enumerate(batch.column(0).to_pylist()):
                yield from make_next(number)(make_first()(iter([batch.slice(row, 1)])))

    return run


def _first_error(applied: DataFrame) -> Column:
    """Return the type and message of the error of each row that has one."""
    if ERRORS not in applied.columns:  # MLflow's own function ends the query instead
        return F.lit(None).cast("string")
    first = F.get(F.col(ERRORS), F.lit(0))
    return F.when(first.isNotNull(), F.concat(first["type"], F.lit(": "), first["message"]))


def _decision_type(value: object) -> DataType:
    """Return the type of a column that holds decisions like *value*."""
    kinds: dict[type, DataType] = {bool: BooleanType(), int: LongType(), float: DoubleType()}
    return kinds.get(type(value), StringType())


def _decision_column(decision: signature.Decision, outputs: Mapping[str, Column]) -> Column:
    below, reached = (
        F.lit(value).cast(_decision_type(value)) for value in (decision.below, decision.reached)
    )
    score = outputs[decision.score]
    return F.when(score >= decision.threshold, reached).when(score.isNotNull(), below)


@contextmanager
def evaluated(planned: Plan, slices: Sequence[str]) -> Iterator[None]:
    """Turn an error of a model in a worker into one line while *planned* is evaluated.

    Raises:
        ScoringFailed: a model failed. The message has the error's line of the worker's trace.
        ResultUnfit: the predictions of a model do not fit its signature.
        ModuleMissing: a model imports a module that is not installed.
        FilesGone, FileUnreadable: Spark did not find, or could not read, a file.
        StorageUnavailable, StorageRefused: an object store failed.
    """
    try:
        with scanning.skip_batch_size_check(planned.runner, lambda: planned.sent):
            yield
    except FAILURES as error:
        if (
            known := scanning.unread(error, lambda: planned.rows) or _storage_error(error)
        ) is not None:
            raise known from error
        lines = str(error).splitlines()
        traces = [n for n, line in enumerate(lines) if "Traceback (most recent call last)" in line]
        lost = _LOST_TASK.search(str(error)) or _WORKER_LOST.search(str(error))
        if traces:
            ends = [line for line in lines[traces[-1] + 1 :] if line and not line[0].isspace()]
            reason = _OWN_PROCESS.sub("", ends[0] if ends else lines[-1])
        elif lost:
            reason = lost[1]
        else:
            raise
        if _OUT_OF_BOUNDS.search(reason):
            reason = f"{_describe_times(planned) or 'a time is out of bounds'} ({reason})"
        uri = listed((contract.loadable.model.uri for contract in planned.contracts), most=5)
        if (unfit := _UNFIT_LINE.search(reason)) is not None:
            raise ResultUnfit(uri, unfit[1]) from error
        lacks = _NO_MODULE.match(reason)
        folders = {
            contract.loadable.model.uri: contract.loadable.folder for contract in planned.contracts
        }
        lacking = (
            lacks[2] or next(iter(folders)) if lacks and (lacks[2] or len(folders) == 1) else None
        )
        if lacks and lacking in folders:
            module = ModuleNotFoundError(name=lacks[1])
            raise environment.missing(lacking, folders[lacking], module) from error
        raise ScoringFailed(uri, f"all of {listed(slices)}", reason) from error


def _describe_times(planned: Plan) -> str:
    """Return a sentence on feature columns with times that pandas cannot hold as nanoseconds."""
    features = {
        contract.sources[f.name] for contract in planned.contracts for f in contract.features
    }
    times = [
        name
        for name in sorted(features)
        if isinstance(planned.schema[name].dataType, (TimestampType, TimestampNTZType))
    ]
    if not planned.runner.is_started:  # do not start Spark only for details of an error
        return ""
    sentences = []
    for name in times:
        value = F.col(f"`{name}`")
        first, last = (F.lit(time).cast("timestamp") for time in _TIMES_OF_PANDAS)
        outside = planned.rows.where((value < first) | (value > last))
        row = outside.agg(F.count("*"), F.min(value).cast("string")).head()
        if row is not None and row[0]:
            sentences.append(f"column {name!r} holds a time such as {row[1]} in {row[0]} rows")
    years = "and pandas knows only the years 1678 to 2261; fix these rows, or filter them out"
    return f"{listed(sentences)}, {years}" if sentences else ""


def _storage_error(error: Exception) -> LakescoreError | None:
    """Return an object store's error, if Spark met it; one with a Python trace is the model's."""
    return (
        None if "Traceback (most recent call last)" in str(error) else storage.explain_error(error)
    )


def _apply(planned: Plan, failing: executor.Failing, *, says: bool = False) -> DataFrame:
    """Return the kept columns, then one column a version, named by `_PREDICTED` and a number.

    With the arrow engine, `ERRORS` follows if *failing* is `null`, and `SAID` if *failing* is
    `aside` or *says* is true. A version's column is a struct if the version has several outputs.
    """
    if planned.engine == "spark_udf":
        kept = [F.col(f"`{name}`") for name in planned.keep]
        predictions = [_udf_column(planned.rows, contract) for contract in planned.contracts]
        return planned.rows.select(
            *kept, *[column.alias(f"{_PREDICTED}{n}") for n, column in enumerate(predictions)]
        )
    says = says or failing == "aside"
    applied = _map_in_arrow(
        planned, _worker_schema(planned, failing, says=says), failing, says=says
    )
    named = _name_columns(planned, applied, failing)
    if planned.direct is None:
        return named
    return scanning.as_selected(named, planned.direct, planned.keep)


def _map_in_arrow(
    planned: Plan,
    schema: StructType,
    failing: executor.Failing,
    *,
    says: bool = True,
    sink: executor.Sink | None = None,
) -> DataFrame:
    """Return the rows of workers of the arrow engine in *schema*; kept columns are k0, k1, ...."""
    predict = _make_predictor(planned, failing, says=says, sink=sink)()
    if planned.direct is not None:  # workers read the files, and Spark only distributes the tasks
        tasks = len(planned.direct.scan.tasks)
        frame = planned.runner.start("Spark hands rows on").range(0, tasks, 1, tasks)
    else:
        rows = planned.rows.repartition(planned.spread) if planned.spread else planned.rows
        carried = [F.col(f"`{name}`").alias(f"k{n}") for n, name in enumerate(planned.keep)]
        frame = rows.select(*carried, *_cast_columns(planned.columns))
    return frame.mapInArrow(predict, schema)


def _make_predictor(
    planned: Plan, failing: executor.Failing, *, says: bool, sink: executor.Sink | None
) -> Callable[[], executor.Task]:
    """Return a factory for the function of a task."""
    kept = len(planned.carried)
    return partial(
        executor.predictor,
        _place_versions(planned, kept),
        kept=kept,
        scan=planned.direct.scan if planned.direct is not None else None,
        tells=_member_facts(planned),
        failing=failing,
        says=executor.listed_at_most(planned.tasks) if says else None,
        sink=sink,
    )


def _member_facts(planned: Plan) -> pa.RecordBatch | None:
    """Return the version columns of each member of `Plan.shown_family`, if there is one."""
    if (family := planned.shown_family) is None:
        return None
    facts = [family.facts(model) for model in family.models]
    schema = pa.schema([(f.name, arrow_type(f.dataType)) for f in planned.version_columns])
    return pa.RecordBatch.from_pylist(facts, schema)


def _name_columns(planned: Plan, applied: DataFrame, failing: executor.Failing) -> DataFrame:
    """Rename the columns from workers all at once, since a table can have columns k1 and p0 too."""
    predicted = [f"{_PREDICTED}{n}" for n in range(len(_result_types(planned)))]
    predicted += [field.name for field in planned.version_columns]
    names = [*planned.carried, *predicted, *([ERRORS] if failing == "null" else []), SAID]
    return applied.toDF(*names[: len(applied.columns)])


def _worker_schema(planned: Plan, failing: executor.Failing, *, says: bool) -> StructType:
    schema = planned.schema
    kept_fields = (
        planned.direct.fields if planned.direct else [schema[name] for name in planned.keep]
    )
    kept = [StructField(f"k{n}", field.dataType) for n, field in enumerate(kept_fields)]
    fields = [*kept, *[StructField(f"p{n}", kind) for n, kind in enumerate(_result_types(planned))]]
    fields += planned.version_columns
    if failing == "null":
        fields += struct(pa.schema({"why": pa.list_(executor.WHY)})).fields
    if says:
        fields.append(StructField(SAID, BinaryType()))
    return StructType(fields)


def _udf_column(rows: DataFrame, contract: Contract) -> Column:
    """Return MLflow's prediction as a column, made from the files that the version's digest covers.

    The column is marked nondeterministic. Otherwise a filter on it would make Spark predict each
    row twice.
    """
    from mlflow.pyfunc import spark_udf  # noqa: PLC0415 - seconds of import, after the checks

    names = [contract.names[feature.name] for feature in contract.features]
    version = _bind_version(contract, tuple((name, n) for n, name in enumerate(names)))
    with _mute_logger("mlflow"):
        udf = spark_udf(
            rows.sparkSession,
            str(wrapping.wrap(version)),
            result_type=wrapping.given(contract.outputs),
            env_manager=contract.loadable.env_manager,
        )
    columns = [
        F.col(f"`{contract.sources[f.name]}`").cast(f.dataType).alias(f.name)
        for f in contract.features
    ]
    predicted: Column = udf.asNondeterministic()(F.struct(*columns))
    return wrapping.unwrapped(predicted, contract.outputs)


def _bind_version(
    contract: Contract, features: tuple[tuple[str | int, int], ...]
) -> executor.Version:
    """Return the version as MLflow's PyFuncModel with *features*: names and positions."""
    return replace(contract.loadable.pyfunc, features=features, outputs=contract.results)


def _result_types(planned: Plan) -> list[DataType]:
    """Return the types of the columns of predictions, one a side."""
    outputs = [side.contracts[0].outputs for side in planned.sides]
    return [columns[0].dataType if len(columns) == 1 else columns for columns in outputs]


class _NotEligible(Exception):
    """The reason why the arrow engine would not give MLflow's values."""


def _plan_arrow(udf: Plan, scan: ScanName) -> tuple[Plan, float]:
    """Return the plan of the arrow engine, and the CPU seconds of a row."""
    managers = {contract.loadable.env_manager for contract in udf.contracts} - {"local"}
    if managers:
        raise _NotEligible(f"env_manager {listed(managers)} is MLflow's own")
    columns = _feature_columns(udf.contracts)
    if odd := _find_refusal(udf.runner, columns):
        raise _NotEligible(odd)
    try:
        for name in udf.keep:
            arrow_type(udf.schema[name].dataType)
    except PySparkException as error:
        raise _NotEligible(f"Arrow cannot hold the table: {error}") from error
    aligned = executor.counted("aligned")
    versions, probed_rows, seconds_a_row = _probe_sides(udf, columns, scan)
    modes = listed(dict.fromkeys(version.mode for version in _list_members(versions)))
    reason = f"{modes}, equal to MLflow's PyFuncModel on {probed_rows}{_order_note(aligned)}"
    arrow = replace(udf, engine="arrow", reason=reason, versions=versions, columns=columns)
    return arrow, seconds_a_row


_Probe = tuple[str, float]
"""A description of the rows on which versions were probed, and the CPU seconds of a row."""


def _probe_sides(
    udf: Plan, columns: Sequence[StructField], scan: ScanName
) -> tuple[tuple[executor.Version | executor.Family, ...], str, float]:
    """Return a version or family a side, a description of the probed rows, and seconds a row."""
    families = [
        _probe_family(udf, side.family, side.contracts, columns, scan)
        for side in udf.sides
        if side.family is not None
    ]
    contracts = [side.contracts[0] for side in udf.sides if side.family is None]
    versions, version_probes = (
        _probe_versions(udf, contracts, columns, scan) if contracts else ((), [])
    )
    probes = [*version_probes, *[probe for _, probe in families]]
    next_version, next_family = iter(versions), (family for family, _ in families)
    in_order = tuple(
        next(next_version) if side.family is None else next(next_family) for side in udf.sides
    )
    return (
        in_order,
        "; on ".join(description for description, _ in probes),
        sum(seconds for _, seconds in probes),
    )


def _probe_versions(
    udf: Plan, contracts: Sequence[Contract], columns: Sequence[StructField], scan: ScanName
) -> tuple[tuple[executor.Version, ...], list[_Probe]]:
    """Probe versions that each score all rows."""
    sample = _read_sample(udf, columns, scan)

    def elsewhere() -> pa.RecordBatch:
        try:
            if udf.selection is None:
                raise NotEligible("the rows are not a snapshot's")  # noqa: TRY301 - as all others
            rows = scanning.scattered(udf.selection, columns, _PROBE_ROWS)
        except NotEligible as not_eligible:
            udf.runner.start(f"Spark looks for rows that the model can score: {not_eligible}")
            return _read_sample(replace(udf, source=udf.rows.orderBy(F.rand(0))), columns)
        return rows.combine_chunks().to_batches()[0]

    versions = tuple(
        _fastest_version(
            udf.runner, contract, _feature_positions(contract, columns), sample, elsewhere
        )
        for contract in contracts
    )
    seconds = _seconds_a_row(udf.runner, versions, contracts, sample)
    return versions, [(f"{sample.num_rows} rows", seconds)]


def _probe_family(
    udf: Plan,
    assigned: Assignment,
    contracts: Sequence[Contract],
    columns: Sequence[StructField],
    scan: ScanName,
) -> tuple[executor.Family, _Probe]:
    """Probe one version of each kind, on rows of its segment, for all versions of the kind.

    Versions of a kind differ in their learned parameters, but are loaded and called alike. A kind
    without rows in the sample, and each kind after the first `_SEGMENTS_PROBED`, uses MLflow's own
    way, which needs no probe. Workers check for each model again if it takes a block of numbers.
    """
    segment_column = StructField(str(assigned.by), udf.schema[str(assigned.by)].dataType)
    sample = _read_sample(udf, [*columns, segment_column], scan, _PROBE_ROWS * _SEGMENTS_PROBED)
    numbers = [
        assigned.numbers.get(segment) for segment in _segment_texts(sample.column(len(columns)))
    ]
    kinds: dict[str, list[int]] = {}
    for number, contract in enumerate(contracts):
        kinds.setdefault(_model_kind(contract), []).append(number)
    versions = [
        _pyfunc_version(contract, _feature_positions(contract, columns)) for contract in contracts
    ]
    rows_at_once = executor.BYTES_GATHERED * sample.num_rows / max(1, sample.nbytes)
    rows_a_call = max(1.0, rows_at_once / len(assigned.numbers))
    probed, seconds = 0, [0.0]
    for alike in list(kinds.values())[:_SEGMENTS_PROBED]:
        rows_by_number = Counter(number for number in numbers if number in set(alike))
        if not rows_by_number:
            continue
        first = rows_by_number.most_common(1)[0][0]
        places = [n for n, number in enumerate(numbers) if number == first][:_PROBE_ROWS]
        rows = sample.take(pa.array(places))
        contract = contracts[first]
        version = _fastest_version(
            udf.runner, contract, _feature_positions(contract, columns), rows
        )
        a_row = _seconds_a_row(udf.runner, [version], [contract], rows)
        seconds.append(a_row + _seconds_a_call(udf.runner, version, rows) / rows_a_call)
        probed += rows.num_rows
        for number in alike:
            versions[number] = _version_in_mode(version.mode, contracts[number], versions[number])
        # Its few rows can all have failed, which proves nothing.
        versions[first] = replace(version, proven=False)
    kinds_probed = len(seconds) - 1
    description = f"{probed} rows, of one version of each of {kinds_probed} kinds"
    family = executor.Family(
        uri=None if udf.shown_family else assigned.uri,
        members=tuple(versions),
        position=len(columns),
        numbers=assigned.numbers,
    )
    return family, (description, max(seconds))


def _list_members(
    versions: Sequence[executor.Version | executor.Family],
) -> list[executor.Version]:
    """Return *versions*, with each family replaced by its members."""
    return [
        member
        for version in versions
        for member in (version.members if isinstance(version, executor.Family) else [version])
    ]


def _segment_texts(segments: pa.Array) -> list[str | None]:
    return [None if segment is None else str(segment) for segment in segments.to_pylist()]


def _model_kind(contract: Contract) -> str:
    """Return the facts that decide how a version is loaded and called; not what it learned."""
    loadable, results = contract.loadable, str(contract.results)
    loader = {k: v for k, v in loadable.flavors.get("python_function", {}).items() if k != "env"}
    native = loadable.native if loadable.is_native else None
    return repr(
        (
            *(loader, loadable.params, loadable.own_code, results, contract.features),
            *(dict(contract.names), dict(contract.sources), dict(contract.nulls)),
            (native.pickled, native.method, native.names) if native is not None else None,
        )
    )


def _feature_columns(contracts: Sequence[Contract]) -> tuple[StructField, ...]:
    """Return the columns of the features: one for each column and type."""
    return tuple(
        dict.fromkeys(
            StructField(contract.sources[field.name], field.dataType)
            for contract in contracts
            for field in contract.features
        )
    )


def _find_refusal(runner: Runner, columns: Sequence[StructField]) -> str:
    """Return the reason why the arrow engine does not take *columns*; empty if it does."""
    unfit = [
        f"{column.name} ({column.dataType.simpleString()})"
        for column in columns
        if type(column.dataType) not in _FEATURE_TYPES
    ]
    if unfit:
        return f"it does not take the columns {listed(unfit)}"
    zone = runner.setting(_ZONE_SETTING, "UTC")
    if zone != "UTC" and any(isinstance(column.dataType, _TIME_TYPES) for column in columns):
        return f"it reads times in UTC, and {_ZONE_SETTING} is {zone}"
    return ""


def _feature_positions(
    contract: Contract, columns: Sequence[StructField]
) -> tuple[tuple[str | int, int], ...]:
    """Return the model's names of the features, with their positions in a batch of *columns*."""
    places = {(column.name, column.dataType): n for n, column in enumerate(columns)}
    return tuple(
        (contract.names[f.name], places[contract.sources[f.name], f.dataType])
        for f in contract.features
    )


def _seconds_a_row(
    runner: Runner,
    versions: Sequence[executor.Version],
    contracts: Sequence[Contract],
    sample: pa.RecordBatch,
) -> float:
    """Return the CPU seconds of one more row, without the fixed costs of a batch."""
    small = pa.Table.from_batches([sample])
    large = pa.concat_tables([small] * _PROBE_REPEATS).combine_chunks().to_batches()[0]
    seconds = []
    for rows in (sample, large):
        started = executor.cpu_seconds()
        for version, contract in zip(versions, contracts, strict=True):
            _attempt(runner, version, contract, rows)
        seconds.append(executor.cpu_seconds() - started)
    more = seconds[1] - seconds[0]
    return float(max(0.0, more / (large.num_rows - sample.num_rows)))


def _seconds_a_call(runner: Runner, version: executor.Version, rows: pa.RecordBatch) -> float:
    """Return the CPU seconds of one more call for a few *rows*, without the costs of a request."""
    seconds = []
    for times in (1, _PROBE_REPEATS):
        started = executor.cpu_seconds()
        runner.call(executor.attempt, [version] * times, rows)
        seconds.append(executor.cpu_seconds() - started)
    return float(max(0.0, (seconds[1] - seconds[0]) / (_PROBE_REPEATS - 1)))


def sample(planned: Plan, most: int) -> pa.RecordBatch | None:
    """Return at most *most* of the first rows as the arrow engine sends them; None without rows."""
    scan: ScanName = "direct" if planned.direct is not None else "spark"
    try:
        return _read_sample(planned, planned.columns, scan, most)
    except _NotEligible:
        return None


def _read_sample(
    planned: Plan,
    columns: Sequence[StructField],
    scan: ScanName = "spark",
    most: int = _PROBE_ROWS,
) -> pa.RecordBatch:
    """Return *columns* of the first rows."""
    try:
        if planned.selection is None or scan == "spark":
            raise NotEligible("Spark must read")  # noqa: TRY301 - as all others
        table = scanning.first(planned.selection, columns, most)
    except NotEligible:
        table = collected(planned.rows.select(*_cast_columns(columns)).limit(most))
    if not table.num_rows:
        raise _NotEligible("there are no rows to probe it with")
    return table.combine_chunks().to_batches()[0]


def _check_scores_any(
    runner: Runner,
    version: executor.Version,
    contract: Contract,
    tried: int,
    elsewhere: pa.RecordBatch,
) -> None:
    """Check that a version that failed on all *tried* rows can score any rows at all.

    Those rows can all come from one bad day, so the check uses as many rows from *elsewhere* in
    the table.
    """
    _, why = _attempt(runner, version, contract, elsewhere)
    if not why.null_count:
        first = why[0].as_py()[0]
        raise ScoringFailed(
            version.uri,
            f"any of {tried + elsewhere.num_rows} rows tried",
            f"{first['type']}: {first['message']}",
        )


def _cast_columns(columns: Sequence[StructField]) -> list[Column]:
    return [F.col(f"`{c.name}`").cast(c.dataType).alias(f"f{n}") for n, c in enumerate(columns)]


def _fastest_version(
    runner: Runner,
    contract: Contract,
    features: tuple[tuple[str | int, int], ...],
    sample: pa.RecordBatch,
    elsewhere: Callable[[], pa.RecordBatch] | None = None,
) -> executor.Version:
    """Return the version for workers, in the fastest mode that gives MLflow's values.

    If all rows of *sample* fail, *elsewhere* returns rows from other places in the table.
    """
    pyfunc = _pyfunc_version(contract, features)
    expected, why = _attempt(runner, pyfunc, contract, sample)
    if elsewhere is not None and not why.null_count and sample.num_rows >= _HOPELESS_ROWS:
        _check_scores_any(runner, pyfunc, contract, sample.num_rows, elsewhere())
    if expected.null_count == len(expected):  # no row can show a difference
        return pyfunc
    for version in _faster_versions(runner, pyfunc, contract):
        if _gives_expected(
            runner, version, sample, (expected, why), exact=_is_exact(runner, version)
        ):
            return version
    return pyfunc


def _pyfunc_version(
    contract: Contract, features: tuple[tuple[str | int, int], ...]
) -> executor.Version:
    """Return a version as MLflow's PyFuncModel, with its rules for nulls."""
    places, names = dict(features), contract.names
    nulls = tuple(
        (names[name], places[names[name]], rule)
        for name, rule in contract.nulls.items()
        if rule in {"null", "quarantine"}
    )
    return replace(_bind_version(contract, features), nulls=nulls)


def _version_in_mode(
    mode: Literal["block", "frame", "pyfunc"], contract: Contract, pyfunc: executor.Version
) -> executor.Version:
    """Return a version in the mode in which a version of its kind was probed."""
    if mode == "pyfunc":
        return pyfunc
    return replace(_native_version(contract, pyfunc), mode=mode, proven=False)


def _native_version(contract: Contract, pyfunc: executor.Version) -> executor.Version:
    """Return a version as a scikit-learn model."""
    return replace(
        contract.loadable.native,
        features=pyfunc.features,
        outputs=pyfunc.outputs,
        nulls=pyfunc.nulls,
    )


def _faster_versions(
    runner: Runner, pyfunc: executor.Version, contract: Contract
) -> Iterator[executor.Version]:
    """Yield a scikit-learn version in faster modes, the fastest first."""
    if not contract.loadable.is_native:
        return
    raw = _native_version(contract, pyfunc)
    kinds = {field.dataType for field in contract.features}
    if kinds <= {DoubleType()} or kinds <= {FloatType()}:
        names = runner.call(executor.describe, raw).features
        if names is None or tuple(name for name, _ in raw.features) == names:
            yield replace(raw, mode="block")
    yield raw


def _gives_expected(
    runner: Runner,
    version: executor.Version,
    sample: pa.RecordBatch,
    expected: tuple[pa.Array, pa.Array],
    *,
    exact: bool,
) -> bool:
    """Return whether *version* gives the *expected* predictions, and fails on the same rows."""
    (predicted,), why = runner.call(executor.attempt, [version], sample)
    if not why.is_null().equals(expected[1].is_null()):
        return False
    return executor.alike(predicted, expected[0], exact=exact)


def _is_exact(runner: Runner, version: executor.Version) -> bool:
    """Return whether the model decides by comparisons, so that any difference is an error."""
    return runner.call(executor.describe, version).module.startswith(_EXACT_MODULES)


def _place_versions(
    planned: Plan, kept: int, *, here: bool = False
) -> list[executor.Version | executor.Family]:
    """Return the versions with features placed after the *kept* columns, and with local files.

    If *here* is true, the tasks run in the driver and its workers, which need no copy of the files.
    """
    members = _list_members(planned.versions)
    folders = iter([v.folder for v in members] if here else _ship_artifacts(planned, members))

    def placed(version: executor.Version) -> executor.Version:
        return replace(
            version,
            features=tuple((name, kept + position) for name, position in version.features),
            nulls=tuple((name, kept + position, rule) for name, position, rule in version.nulls),
            folder=next(folders),
        )

    sides: list[executor.Version | executor.Family] = []
    for version, side in zip(planned.versions, planned.sides, strict=True):
        if isinstance(version, executor.Family):
            position = planned.carried.index(str(side.family and side.family.by))
            members_placed = tuple(placed(member) for member in version.members)
            sides.append(replace(version, members=members_placed, position=position))
        else:
            sides.append(placed(version))
    return sides


def _ship_artifacts(planned: Plan, versions: Sequence[executor.Version]) -> list[str]:
    """Ship the artifacts to the executors once a session, and return their folders.

    In local mode the executors already have them. The artifacts of families go as one archive,
    since executors fetch archives one after the other.
    """
    runner = planned.runner
    if not runner.is_started or classic.is_local(runner.spark):
        return [version.folder for version in versions]
    names = [_archive_name(version.key) for version in versions]
    if not planned.has_families:
        for name, version in zip(names, versions, strict=True):
            classic.ship(runner.spark, name, {"": version.folder})
        return names
    archive = _archive_name(" ".join(["segments", *[version.key for version in versions]]))
    folders = {n: version.folder for n, version in zip(names, versions, strict=True)}
    classic.ship(runner.spark, archive, folders)
    return [f"{archive}/{name}" for name in names]


def _archive_name(key: str) -> str:
    return f"lakescore-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


@contextmanager
def _mute_logger(name: str) -> Iterator[None]:
    """Mute MLflow's warnings about the environment, which lakescore chose on purpose."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
