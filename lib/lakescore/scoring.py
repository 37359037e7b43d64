"""Scoring: how pinned versions are applied to rows, and the predictions as columns.

Two engines give the same values. `spark_udf` is MLflow's own function: the reference, for every
flavour. `arrow` hands Arrow batches to the model, loads it once a worker process, and applies
several versions in one pass; `plan` chooses it only where a probe of real rows shows it equal.
Its workers read the table's files themselves where `scanning` allows it.
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
    FilesUnwritten,
    LakescoreError,
    ResultUnfit,
    ScoringFailed,
    StorageFull,
    listed,
)
from lakescore.filing import Place
from lakescore.logs import NotEligible
from lakescore.runner import FAILURES, Runner
from lakescore.signature import Binding
from lakescore.slicing import RESERVED_PREFIX, SLICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame

    from lakescore.assignment import Assignment
    from lakescore.signature import Contract

EngineName = Literal["auto", "arrow", "spark_udf"]
ScanName = Literal["direct", "spark"]
ERRORS = f"{RESERVED_PREFIX}errors"
"""The column that says why a row could not be scored, and by which version."""
SAID = executor.SAID
"""The column of `tried` that holds what tasks say of themselves."""
_ERROR = "error"
"""The column of `score` that says why a row could not be scored."""
_PREDICTED = f"{RESERVED_PREFIX}p"
"""How the column of a version's prediction begins; its number follows."""
_UNFIT = {executor.Misshapen.__name__, executor.Truncated.__name__}
"""The types of the errors of predictions that do not fit the signature."""
_LOST = re.compile(r"Lost task .*?\(TID \d+\).*?: (?:[\w.$]+: )?(.+)")
"""How Spark says why it gave a task up, where no trace of Python says it: workers that died."""
_WORKER_LOST = re.compile(r"^(a worker (?:was ended|ended) .+)")
_UNFIT_LINE = re.compile(rf"\b(?:{'|'.join(sorted(_UNFIT))}): (.+)")
_OWN_PROCESS = re.compile(rf"^.*\b{executor.ModelFailed.__name__}: ")
"""How an error of a model begins that was raised in a process of its own."""
_OUT_OF_BOUNDS = re.compile(r"out of bounds (?:nanosecond )?timestamp", re.IGNORECASE)
_TIMES_OF_PANDAS = ("1677-09-21 00:12:44", "2262-04-11 23:47:16")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'(?:, for (models:/\S+))?")
_UNWRITTEN = re.compile(rf"\b{executor.Unwritten.__name__}: (.+)")
_SHOWN = "model_uri"
"""What is shown of the version that scored a row, where each segment has its own."""
_ASKED_FOR = "asked for"
_PROBE_ROWS = 200
_HOPELESS = 100
"""So many rows, and every one fails: then it is not the rows."""
_SEGMENTS_PROBED = 20
_TIMES = 10
"""How often the probe is repeated to see what a row costs."""
_EXACT = ("sklearn.tree", "sklearn.ensemble", "sklearn.dummy")
_MOMENTS = (TimestampNTZType, TimestampType)
_FEATURES = (
    BinaryType,
    BooleanType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    *_MOMENTS,
)
"""What Arrow and MLflow's way by Spark turn into the same pandas values, times in UTC."""
_ZONE = "spark.sql.session.timeZone"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How versions are applied to rows, settled before any row is scored."""

    engine: Literal["arrow", "spark_udf"]
    reason: str
    source: DataFrame | scanning.Selection
    """What is scored: rows that Spark reads, or those of a snapshot."""
    keep: tuple[str, ...]
    """The columns of `rows` that stand beside the predictions."""
    sides: tuple[Binding, ...]
    """What gives each column of predictions: a version, or a family with a version a segment."""
    tells: Assignment | None = None
    """The family of the only side, where each row shall say which version scored it."""
    direct: scanning.Direct | None = None
    """What workers read themselves, if they do."""
    scan_reason: str = ""
    """Why they do not."""
    versions: tuple[executor.Version | executor.Family, ...] = ()
    """What workers of the arrow engine get, one a side; positions count from the first feature."""
    columns: tuple[StructField, ...] = ()
    """The features that the arrow engine sends, each once a type."""
    spread: int | None = None
    """Into how many partitions Spark spreads the rows first, where it reads them."""
    totals: executor.TaskTotals = field(default_factory=executor.TaskTotals, compare=False)
    """What workers of the arrow engine said that they did."""

    @property
    def selection(self) -> scanning.Selection | None:
        """What the rows are of a snapshot, if they are of one."""
        return self.source if isinstance(self.source, scanning.Selection) else None

    @cached_property
    def rows(self) -> DataFrame:
        """What is scored, as Spark reads it."""
        return self.source.rows if isinstance(self.source, scanning.Selection) else self.source

    @property
    def schema(self) -> StructType:
        """The columns of the rows."""
        return self.source.schema

    @property
    def runner(self) -> Runner:
        """What runs the tasks."""
        if isinstance(self.source, scanning.Selection):
            return self.source.runner
        return Runner.of(self.source.sparkSession)

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """What each version takes and gives, side by side."""
        return tuple(contract for side in self.sides for contract in side.contracts)

    @property
    def uris(self) -> list[str]:
        """What to call the columns of predictions: URIs of versions, or names of families."""
        return [side.uri for side in self.sides]

    @property
    def has_families(self) -> bool:
        """Whether a column of predictions comes of a version a segment."""
        return any(side.family for side in self.sides)

    @property
    def contract(self) -> Contract:
        """What a row gets: of one version, or of those of segments, which all give the same."""
        if len(self.sides) > 1:
            raise TypeError("several versions score each row")
        return self.contracts[0]

    @property
    def said_of_versions(self) -> list[StructField]:
        """The columns that say which version scored a row, where each segment has its own."""
        if self.tells is None:
            return []
        return [StructField(name, lineage.kind_of(name)) for name in lineage.VERSION_COLUMNS]

    @property
    def decisive(self) -> list[str]:
        """The predictions, and which version made them where each segment has its own."""
        own = [each.name for each in self.said_of_versions if each.name == _SHOWN]
        return [*self.contract.written, *own]

    @property
    def given(self) -> list[StructField]:
        """The columns that `tried` gives, but for `SAID`."""
        contract = self.contract
        kept = [StructField(name, self.schema[name].dataType) for name in self.keep]
        outputs = [StructField(each.name, each.dataType) for each in contract.outputs]
        if (decision := contract.decision) is not None:
            outputs.append(StructField(signature.DECISION, _kind_of(decision.below)))
        return [*kept, *outputs, *self.said_of_versions]

    @property
    def isolated(self) -> dict[str, str]:
        """The versions that are applied in processes of their own, and the code that needs it."""
        loadables = [contract.loadable for contract in self.contracts]
        return {one.model.uri: one.own_code for one in loadables if one.own_code is not None}

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that workers of the arrow engine hold, before the predictions."""
        return self.direct.carried if self.direct is not None else self.keep

    @property
    def slice_at(self) -> int | None:
        """Which of `carried`, as text, names a row's slice; none where nothing does."""
        name = self.direct.selection.column if self.direct is not None else SLICE
        return self.carried.index(name) if name in self.carried else None

    @property
    def sent(self) -> list[DataType]:
        """The types of what Spark hands to workers of the arrow engine, but for a row's slice.

        That is the name of a folder of the output, so it is short.
        """
        kept = [self.schema[name].dataType for name in self.keep if name != SLICE]
        return [*kept, *[each.dataType for each in self.columns]]

    @property
    def tasks(self) -> int:
        """How many tasks score the rows."""
        if self.direct is not None:
            return len(self.direct.scan.tasks)
        return self.spread or classic.tasks(self.rows)

    def __str__(self) -> str:
        """Say in one line what was chosen, and why."""
        line = f"engine {self.engine}: {self.reason}"
        if self.engine == "spark_udf":
            return line
        if self.direct is not None:
            return f"{line}; workers read the files, in {len(self.direct.scan.tasks)} tasks"
        spread = f", spread over {self.spread} partitions" if self.spread else ""
        return f"{line}; Spark reads them ({self.scan_reason}){spread}"

    def facts(self) -> dict[str, Any]:
        """Return the choices as they stand in the receipt, with what workers have done so far.

        Of the spark_udf engine nobody counts loads and workers.
        """
        facts: dict[str, Any] = {"name": self.engine, "reason": self.reason}
        if self.engine == "spark_udf":
            return facts
        modes = [version.mode for version in _members(self.versions)]
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
        """Estimate how many batches a version will be called with, of which none fails.

        Of Spark's own batches, it takes *rows* to be spread evenly over the tasks.
        """
        if self.direct is not None:
            return self.direct.batches
        tasks = max(1, min(rows, self.tasks))
        # Rows that Spark filters, or spreads, no longer come in the batches that it reads.
        by = self.selection.column if self.selection is not None else SLICE
        whole = (
            self.engine == "spark_udf"
            and _passes_batches_on(self.runner.spark.version)
            and (by is None or self._is_divided_by(by))
        )
        limit = "parquet.columnarReaderBatchSize" if whole else "execution.arrow.maxRecordsPerBatch"
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
        """How many rows tasks said that they set aside."""
        return self.totals.failed

    def first_errors(self) -> list[str]:
        """Return the types and messages of rows set aside, each once and sorted, as far as listed.

        The same ones for the same rows; none where nothing was set aside.
        """
        failed = self.totals.listed()
        if failed is None:
            return []
        reasons = [why[0] for why in failed.column("why").to_pylist()]
        return sorted({f"{reason['type']}: {reason['message']}" for reason in reasons})

    def set_aside(self) -> pa.Table | None:
        """Return the rows that tasks said they set aside: the kept columns and `ERRORS`.

        A few of them where they are too many to be listed; `failed` counts them all.
        """
        failed = self.totals.listed()
        if failed is None:
            return None
        rows = failed.rename_columns([*self.carried, ERRORS])
        return rows if self.direct is None else scanning.named(rows, self.direct, self.keep)

    @property
    def is_here(self) -> bool:
        """Whether workers of this machine read and score the rows, without Spark."""
        return self.direct is not None and not self.runner.is_started

    def heard(self, rows: DataFrame) -> DataFrame:
        """Return *rows* of `tried`, which must be held, without what tasks said: it is tallied."""
        if SAID not in rows.columns:
            return rows
        told = rows.where(F.col(SAID).isNotNull()).select(SAID)
        self.totals.add(bytes(row[0]) for row in told.collect())
        return rows.where(F.col(SAID).isNull()).drop(SAID)

    def places(self) -> dict[str, Place]:
        """Return where the columns that `score` gives are in what workers of the arrow engine hold.

        Raises:
            NotEligible: MLflow's own function scores, or nothing in the rows names their slice.
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
        for n, field_ in enumerate(self.said_of_versions):
            places[field_.name] = Place(last + 1 + n)
        return places


def _passes_batches_on(version: str) -> bool:
    """Tell whether Spark of *version* gives Python the batches of a reader as they are.

    Tried with 3.5.9, 4.0.5 and 4.1.4, which do not, and with 4.2.0.
    """
    return tuple(int(part) for part in version.split(".")[:2]) >= (4, 2)


def plan(
    asked: EngineName,
    rows: DataFrame | scanning.Selection,
    binding: Binding | Sequence[Contract | Binding],
    keep: Sequence[str],
    scan: ScanName = "direct",
) -> Plan:
    """Choose how versions are applied to *rows*, of which a few are scored as a probe.

    Args:
        asked: the engine; `auto` is arrow where that gives MLflow's values.
        rows: what is scored; only a selection of a snapshot can be read by workers directly.
        binding: what each column of predictions comes of: a version, or a family whose segments a
            column of *keep* names. The rows of a family that is given alone, and not as one of
            several, say which version scored them.
        keep: columns of *rows* that shall stand beside the predictions.
        scan: `direct` lets workers read the files where that is exactly what Spark reads.

    Raises:
        EngineRefused: the arrow engine was asked for, and it would not give MLflow's values; or
            what the job's file says of nulls needs it.
        ScoringFailed: every row of the probe fails, so it is not the rows; or one does, where the
            engine is spark_udf, which sets none aside.
        ResultUnfit: what a version gives does not fit its signature.
    """
    alone = isinstance(binding, Binding)
    given = [binding] if isinstance(binding, Binding) else binding
    sides = [side if isinstance(side, Binding) else Binding((side,)) for side in given]
    udf = Plan(
        engine="spark_udf",
        reason=_ASKED_FOR,
        source=rows,
        keep=tuple(keep),
        sides=tuple(sides),
        tells=sides[0].family if alone else None,
    )
    runner = udf.runner
    if asked == "spark_udf":
        runner.start("the engine spark_udf is Spark's")
        return _tried(_checked(udf))
    try:
        arrow, seconds_a_row = _arrow(udf, scan)
    except _NotEligible as not_eligible:
        if asked == "arrow" or udf.has_families:
            raise EngineRefused("arrow", str(not_eligible)) from not_eligible
        checked = _checked(replace(udf, reason=str(not_eligible)))
        runner.start(f"the engine spark_udf is Spark's, and arrow is out: {not_eligible}")
        return _tried(checked)
    if udf.selection is not None and scan == "direct":
        try:
            found = scanning.direct(udf.selection, keep, arrow.columns, seconds_a_row=seconds_a_row)
            runner.choose(found.rows * seconds_a_row)
            return replace(arrow, direct=found)
        except NotEligible as not_eligible:
            left = str(not_eligible)
    else:
        left = "asked for" if udf.selection else "the rows are no snapshot's"
    runner.start(f"Spark reads the rows: {left}")
    spread = scanning.spread(udf.rows, seconds_a_row=seconds_a_row, selection=udf.selection)
    return replace(arrow, scan_reason=left, spread=spread)


def _checked(udf: Plan) -> Plan:
    """Return *udf*, in which Spark evaluates the model before anything could hold rows back."""
    held = {
        name: rule
        for contract in udf.contracts
        for name, rule in contract.nulls.items()
        if rule in {"null", "quarantine"} and rule == contract.asked_nulls.get(name)
    }
    if held:
        rules = listed(f"{name}: {rule}" for name, rule in held.items())
        reason = f"it hands every row to the model, and nulls says {rules}"
        if udf.reason == _ASKED_FOR:
            raise EngineRefused(
                "spark_udf", reason, "give engine=auto, or leave these out of nulls"
            )
        raise EngineRefused(
            "spark_udf", f"{reason}; engine arrow is out: {udf.reason}", "leave these out of nulls"
        )
    return udf


def _tried(udf: Plan) -> Plan:
    """Return *udf*, which was tried on a few rows: else each task would fail as often as it may.

    Raises:
        ScoringFailed: a version could not score one of them, and nothing sets it aside.
        ModuleMissing, ResultUnfit, FeaturesLeftOut: no row could be scored.
    """
    columns = _features(udf.contracts)
    managers = {contract.loadable.env_manager for contract in udf.contracts}
    if managers != {"local"} or _odd(udf.runner, columns):
        few = replace(udf, source=udf.rows.limit(_PROBE_ROWS).coalesce(1))
        with evaluated(few, [f"the first {_PROBE_ROWS} rows"]):
            side_by_side(few).collect()
        return udf
    try:
        sample = _sample(udf, columns)
    except _NotEligible:  # there are no rows
        return udf
    aligned = executor.counted("aligned")
    for contract in udf.contracts:
        version = _bound(contract, _positions(contract, columns))
        _, why = _attempted(udf.runner, version, contract, sample)
        if why.null_count < len(why):
            first = why.drop_null()[0].as_py()[0]
            raise ScoringFailed(
                version.uri,
                "a row, and engine spark_udf sets none aside",
                f"{first['type']}: {first['message']}",
            )
    return replace(udf, reason=udf.reason + _told_of_order(aligned))


def _told_of_order(before: float) -> str:
    """Return what a plan's reason says where predictions were put in order since *before*."""
    if executor.counted("aligned") == before:
        return ""
    return "; predictions come with an index in another order, and are put in order by it"


def _attempted(
    runner: Runner, version: executor.Version, contract: Contract, rows: pa.RecordBatch
) -> tuple[pa.Array, pa.Array]:
    """Return the predictions of *version*, null where it failed, and why it did.

    They are made in the driver, or in a worker of this machine where these run the tasks.

    Raises:
        ModuleMissing: the model imports what is not installed here.
        ScoringFailed: it cannot be loaded, or its process ended.
        ResultUnfit: what it gives is not what its signature says.
        FeaturesLeftOut: it fails on every row, perhaps for want of optional features.
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
    unfit = [reason for reason in reasons if reason["type"] in _UNFIT]
    truncated = [reason for reason in unfit if reason["type"] == executor.Truncated.__name__]
    if truncated or (unfit and predicted.null_count == rows.num_rows):
        raise ResultUnfit(version.uri, (truncated or unfit)[0]["message"])
    if contract.left_out and len(reasons) == rows.num_rows:
        first = reasons[0]
        reason = f"{first['type']}: {first['message'].strip()}"
        raise FeaturesLeftOut(version.uri, contract.left_out, reason)
    return predicted, why


def score(planned: Plan, *, failing: Literal["raise", "null"] = "raise") -> DataFrame:
    """Return the columns that *planned* keeps and the outputs of its only version.

    One row for each of its rows, each predicted once.

    Args:
        planned: how the rows are scored.
        failing: what becomes of rows that the model cannot score. `raise`: the first one ends the
            query. `null`: their outputs are null, and a last column, `error`, says why. MLflow's
            own function ends the query in any case.

    Raises:
        ColumnsCollide: there is a column `error` already.
    """
    return _outputs(planned, _apply(planned, failing), says_why=failing == "null")


def tried(planned: Plan) -> DataFrame:
    """Return what `score` gives of the rows that could be scored, and what tasks say in `SAID`.

    That column is null but in one more row, the last of each task, in which all others are null: it
    says what the task did, and lists the rows that it could not score. `Plan.heard` reads it.
    MLflow's own function sets no row aside, and its tasks say nothing: there is no such column.
    """
    return _outputs(planned, _apply(planned, "aside"), says_why=False)


@contextmanager
def held(planned: Plan) -> Iterator[DataFrame | pa.Table]:
    """Keep what `tried` gives while it is read again; what tasks said is heard.

    Yields:
        The rows that could be scored: a frame, or where workers of this machine score them, a table
        of `Plan.keep` and `Plan.decisive`.
    """
    if planned.is_here:
        yield _tried_here(planned)
        return
    kept = tried(planned).persist(StorageLevel.DISK_ONLY)
    try:
        yield planned.heard(kept)
    finally:
        kept.unpersist()


def _outputs(planned: Plan, applied: DataFrame, *, says_why: bool) -> DataFrame:
    contract = planned.contract
    names = contract.outputs.names
    kept = [F.col(f"`{name}`") for name in planned.keep]
    one = F.col(f"{_PREDICTED}0")
    given = [one] if len(names) == 1 else [one[name] for name in names]
    outputs = dict(zip(names, given, strict=True))
    if contract.decision is not None:
        outputs[signature.DECISION] = _decided(contract.decision, outputs)
    columns = [*kept, *[each.alias(name) for name, each in outputs.items()]]
    columns += [F.col(each.name) for each in planned.said_of_versions]
    if says_why:
        signature.check_names("the rows", "output", [*planned.keep, *outputs, _ERROR])
        columns.append(_first_error(applied).alias(_ERROR))
    if SAID in applied.columns:
        columns.append(F.col(SAID))
    return applied.select(*columns)


def file(planned: Plan, sink: executor.Sink) -> list[dict[str, Any]]:
    """Let workers write what could be scored, and return what they wrote, as `executor.FILES`.

    Raises:
        StorageFull, FilesUnwritten: they cannot write into the sink's folder.
    """
    try:
        if planned.direct is None:
            found = collected(_sent_to(planned, struct(executor.FILES), "aside", sink=sink))
        else:
            made, tasks = _predictor(planned, "aside", says=True, sink=sink), planned.tasks
            found = planned.runner.run(made, tasks, executor.FILES)
        return list(found.to_pylist())
    except FAILURES as error:
        unwritten = _UNWRITTEN.search(str(error))
        if unwritten is None:
            raise
        if os.strerror(errno.ENOSPC) in unwritten[1]:
            raise StorageFull(sink.folder) from error
        raise FilesUnwritten(sink.folder, unwritten[1]) from error


def probe(planned: Plan, most: int = 100) -> list[dict[str, Any]]:
    """Return *most* of the rows that the job would write, each by column, scored apart from it."""
    if planned.direct is not None:
        return _probed_here(planned, planned.direct, most)
    few = planned.rows.limit(most)
    apart = replace(planned, source=few, spread=None, totals=executor.TaskTotals())
    scored = tried(apart)
    if SAID in scored.columns:
        scored = scored.where(F.col(SAID).isNull()).drop(SAID)
    more = [each.name for each in planned.said_of_versions if each.name != _SHOWN]
    shown = readable(scored.drop(*more)).withColumnRenamed(SLICE, "slice")
    return [row.asDict() for row in shown.collect()]


def _probed_here(planned: Plan, direct: scanning.Direct, most: int) -> list[dict[str, Any]]:
    """Return what `probe` does of rows that are read without Spark."""
    columns = _filed(planned, direct)
    short = scanning.shortened(direct.scan, most)
    for scan in (short, direct.scan):
        made = partial(
            executor.predictor,
            _placed(planned, len(planned.carried), here=True),
            kept=len(planned.carried),
            scan=scan,
            tells=_told_of_members(planned),
            failing="aside",
        )
        found = planned.runner.call(executor.few, made, len(scan.tasks), most, columns)
        if sum(batch.num_rows for batch in found) >= most or short == direct.scan:
            break
    if not found:
        return []
    rows = scanning.named(pa.Table.from_batches(found), direct, planned.keep)
    names = ["slice" if name == SLICE else name for name in planned.keep]
    return list(legible(rows.rename_columns([*names, *planned.decisive])).to_pylist())


def _filed(planned: Plan, direct: scanning.Direct) -> list[executor.OutputColumn]:
    """Return the columns that workers carry, then `Plan.decisive`, under names of our own.

    An output may be called as the column that names the slice.
    """
    places = planned.places()
    kinds = {field.name: arrow_type(field.dataType) for field in planned.given}
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


def _tried_here(planned: Plan) -> pa.Table:
    """Return `Plan.keep` and `Plan.decisive` of `tried`, by workers of this machine.

    They read the files; what tasks said is heard.
    """
    direct = planned.direct
    assert direct is not None  # noqa: S101 - narrows for mypy
    columns = _filed(planned, direct)
    says = len(planned.carried) + 1 + len(planned.said_of_versions)
    columns.append(executor.OutputColumn(name=SAID, kind=pa.binary(), position=says))
    made = _predictor(planned, "aside", says=True, sink=None)
    schema = pa.schema([(column.name, column.kind) for column in columns])
    rows = _heard_here(planned, partial(executor.narrowed, made, columns), schema)
    named = scanning.named(rows, direct, planned.keep)
    return named.rename_columns([*planned.keep, *planned.decisive])


def _heard_here(planned: Plan, made: Callable[[], executor.Task], schema: pa.Schema) -> pa.Table:
    """Return the rows that tasks give to workers of this machine; what they say is tallied."""
    rows = planned.runner.run(made, planned.tasks, schema)
    said = rows.column(SAID)
    planned.totals.add(bytes(told) for told in said.drop_null().to_pylist())
    return rows.filter(said.is_null()).drop_columns([SAID])


def side_by_side(planned: Plan, *, says: bool = False) -> DataFrame:
    """Return the columns that *planned* keeps, one column a version, and `ERRORS`.

    Where it *says* so, `SAID` comes last, as in `tried`, unless the engine is spark_udf.

    A version's column has its URI as its name, and holds its prediction, or a struct where it has
    several outputs; null where it could not score the row. `ERRORS` is a list of structs of
    version, type and message, null where all could.
    """
    renamed = {f"{_PREDICTED}{n}": uri for n, uri in enumerate(planned.uris)}
    applied = _apply(planned, "null", says=says).withColumnsRenamed(renamed)
    if planned.engine == "spark_udf":
        kind = "array<struct<version: string, type: string, message: string>>"
        return applied.withColumn(ERRORS, F.lit(None).cast(kind))
    return applied


def side_of(planned: Plan) -> StructType:
    """Return the columns of what `side_by_side` gives, but for `ERRORS` and `SAID`."""
    kept = [planned.schema[name] for name in planned.keep]
    kinds = zip(planned.uris, _results(planned), strict=True)
    return StructType([*kept, *[StructField(uri, kind) for uri, kind in kinds]])


def places_of(planned: Plan) -> dict[str, int]:
    """Return where workers that read the files have the columns of `side_by_side`, by name."""
    direct, kept = planned.direct, len(planned.carried)
    assert direct is not None  # noqa: S101 - narrows for mypy
    places = {name: n for n, name in enumerate(planned.carried)}
    if direct.selection.column is not None:
        places[direct.selection.adds.name] = places[direct.selection.column]
    names = [*planned.uris, ERRORS, SAID]
    return places | {name: kept + n for n, name in enumerate(names)}


def side_by_side_here(
    planned: Plan, then: Callable[[int], executor.Task], schema: pa.Schema
) -> pa.Table:
    """Return what *then* makes of what `side_by_side` gives, by workers of this machine.

    Args:
        planned: a plan whose workers read the files.
        then: makes the function that gets the batches of a task, by the task's number; what tasks
            say in `SAID` is heard.
        schema: of what it gives.
    """
    made = partial(_in_turn, _predictor(planned, "null", says=True, sink=None), then)
    return _heard_here(planned, made, schema)


def _in_turn(
    first: Callable[[], executor.Task], then: Callable[[int], executor.Task]
) -> executor.Task:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for n, number in enumerate(batch.column(0).to_pylist()):
                yield from then(number)(first()(iter([batch.slice(n, 1)])))

    return run


def _first_error(applied: DataFrame) -> Column:
    """Return the type and message of the error of each row that has one."""
    if ERRORS not in applied.columns:  # MLflow's own function ends the query instead
        return F.lit(None).cast("string")
    first = F.get(F.col(ERRORS), F.lit(0))
    return F.when(first.isNotNull(), F.concat(first["type"], F.lit(": "), first["message"]))


def _kind_of(value: object) -> DataType:
    """Return the type of a column of decisions such as *value*."""
    kinds: dict[type, DataType] = {bool: BooleanType(), int: LongType(), float: DoubleType()}
    return kinds.get(type(value), StringType())


def _decided(decision: signature.Decision, outputs: Mapping[str, Column]) -> Column:
    below, reached = (
        F.lit(each).cast(_kind_of(each)) for each in (decision.below, decision.reached)
    )
    score = outputs[decision.score]
    return F.when(score >= decision.threshold, reached).when(score.isNotNull(), below)


@contextmanager
def evaluated(planned: Plan, slices: Sequence[str]) -> Iterator[None]:
    """Hold while *planned* is evaluated, and turn an error of a model in a worker into one line.

    Raises:
        ScoringFailed: with the error's own line of the worker's Python trace.
        FilesGone, FileUnreadable: it was no model, but a file that Spark did not find, or read.
        StorageUnavailable, StorageRefused: or an object store.
    """
    try:
        with scanning.skip_batch_size_check(planned.runner, lambda: planned.sent):
            yield
    except FAILURES as error:
        if (
            known := scanning.unread(error, lambda: planned.rows) or _of_storage(error)
        ) is not None:
            raise known from error
        lines = str(error).splitlines()
        traces = [n for n, line in enumerate(lines) if "Traceback (most recent call last)" in line]
        lost = _LOST.search(str(error)) or _WORKER_LOST.search(str(error))
        if traces:
            ends = [line for line in lines[traces[-1] + 1 :] if line and not line[0].isspace()]
            reason = _OWN_PROCESS.sub("", ends[0] if ends else lines[-1])
        elif lost:
            reason = lost[1]
        else:
            raise
        if _OUT_OF_BOUNDS.search(reason):
            reason = f"{_out_of_bounds(planned) or 'a time is out of bounds'} ({reason})"
        uri = listed((each.loadable.model.uri for each in planned.contracts), most=5)
        if (unfit := _UNFIT_LINE.search(reason)) is not None:
            raise ResultUnfit(uri, unfit[1]) from error
        lacks = _NO_MODULE.match(reason)
        of = {each.loadable.model.uri: each.loadable.folder for each in planned.contracts}
        lacking = lacks[2] or next(iter(of)) if lacks and (lacks[2] or len(of) == 1) else None
        if lacks and lacking in of:
            module = ModuleNotFoundError(name=lacks[1])
            raise environment.missing(lacking, of[lacking], module) from error
        raise ScoringFailed(uri, f"all of {listed(slices)}", reason) from error


def _out_of_bounds(planned: Plan) -> str:
    """Say which columns of the models hold times that pandas has no nanoseconds for."""
    features = {each.sources[f.name] for each in planned.contracts for f in each.features}
    times = [
        name
        for name in sorted(features)
        if isinstance(planned.schema[name].dataType, (TimestampType, TimestampNTZType))
    ]
    if not planned.runner.is_started:  # it would start for a word of an error alone
        return ""
    told = []
    for name in times:
        held = F.col(f"`{name}`")
        first, last = (F.lit(each).cast("timestamp") for each in _TIMES_OF_PANDAS)
        outside = planned.rows.where((held < first) | (held > last))
        seen = outside.agg(F.count("*"), F.min(held).cast("string")).head()
        if seen is not None and seen[0]:
            told.append(f"column {name!r} holds a time such as {seen[1]} in {seen[0]} rows")
    years = "and pandas knows times of the years 1678 to 2261; mend these rows, or filter them out"
    return f"{listed(told)}, {years}" if told else ""


def _of_storage(error: Exception) -> LakescoreError | None:
    """Return what an object store told Spark: models, whose traces are Python's, may use others."""
    return (
        None if "Traceback (most recent call last)" in str(error) else storage.explain_error(error)
    )


def _apply(planned: Plan, failing: executor.Failing, *, says: bool = False) -> DataFrame:
    """Return the kept columns, then a column a version, or a struct, `_PREDICTED` by name.

    Of the arrow engine, where *failing* rows stand with a null, `ERRORS` follows; and `SAID`, where
    they are left out or tasks shall tell.
    """
    if planned.engine == "spark_udf":
        kept = [F.col(f"`{name}`") for name in planned.keep]
        predictions = [_spark_udf(planned.rows, each) for each in planned.contracts]
        return planned.rows.select(
            *kept, *[each.alias(f"{_PREDICTED}{n}") for n, each in enumerate(predictions)]
        )
    says = says or failing == "aside"
    applied = _sent_to(planned, _given(planned, failing, says=says), failing, says=says)
    named = _named(planned, applied, failing)
    if planned.direct is None:
        return named
    return scanning.as_selected(named, planned.direct, planned.keep)


def _sent_to(
    planned: Plan,
    given: StructType,
    failing: executor.Failing,
    *,
    says: bool = True,
    sink: executor.Sink | None = None,
) -> DataFrame:
    """Return what workers of the arrow engine give: rows of *given*, with k0, k1, ... kept."""
    predict = _predictor(planned, failing, says=says, sink=sink)()
    if planned.direct is not None:  # workers read the files: Spark hands out their tasks
        tasks = len(planned.direct.scan.tasks)
        sent = planned.runner.start("Spark hands rows on").range(0, tasks, 1, tasks)
    else:
        rows = planned.rows.repartition(planned.spread) if planned.spread else planned.rows
        carried = [F.col(f"`{name}`").alias(f"k{n}") for n, name in enumerate(planned.keep)]
        sent = rows.select(*carried, *_sent(planned.columns))
    return sent.mapInArrow(predict, given)


def _predictor(
    planned: Plan, failing: executor.Failing, *, says: bool, sink: executor.Sink | None
) -> Callable[[], executor.Task]:
    """Return what makes the function of a task."""
    kept = len(planned.carried)
    return partial(
        executor.predictor,
        _placed(planned, kept),
        kept=kept,
        scan=planned.direct.scan if planned.direct is not None else None,
        tells=_told_of_members(planned),
        failing=failing,
        says=executor.listed_at_most(planned.tasks) if says else None,
        sink=sink,
    )


def _told_of_members(planned: Plan) -> pa.RecordBatch | None:
    """Return what rows say of each member of the family that scores them, if they shall say it."""
    if (family := planned.tells) is None:
        return None
    facts = [family.facts(model) for model in family.models]
    schema = pa.schema([(f.name, arrow_type(f.dataType)) for f in planned.said_of_versions])
    return pa.RecordBatch.from_pylist(facts, schema)


def _named(planned: Plan, applied: DataFrame, failing: executor.Failing) -> DataFrame:
    """Rename what workers gave, all at once, since a table may have columns k1 and p0 too."""
    predicted = [f"{_PREDICTED}{n}" for n in range(len(_results(planned)))]
    predicted += [each.name for each in planned.said_of_versions]
    names = [*planned.carried, *predicted, *([ERRORS] if failing == "null" else []), SAID]
    return applied.toDF(*names[: len(applied.columns)])


def _given(planned: Plan, failing: executor.Failing, *, says: bool) -> StructType:
    there = planned.schema
    held = planned.direct.fields if planned.direct else [there[name] for name in planned.keep]
    kept = [StructField(f"k{n}", each.dataType) for n, each in enumerate(held)]
    fields = [*kept, *[StructField(f"p{n}", kind) for n, kind in enumerate(_results(planned))]]
    fields += planned.said_of_versions
    if failing == "null":
        fields += struct(pa.schema({"why": pa.list_(executor.WHY)})).fields
    if says:
        fields.append(StructField(SAID, BinaryType()))
    return StructType(fields)


def _spark_udf(rows: DataFrame, contract: Contract) -> Column:
    """Return MLflow's prediction as a column, of the very files whose digest the version carries.

    The column is marked nondeterministic, without which a filter on it would make Spark predict
    each row twice.
    """
    from mlflow.pyfunc import spark_udf  # noqa: PLC0415 - seconds of import, after the checks

    names = [contract.names[feature.name] for feature in contract.features]
    version = _bound(contract, tuple((name, n) for n, name in enumerate(names)))
    with _quiet("mlflow"):
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


def _bound(contract: Contract, features: tuple[tuple[str | int, int], ...]) -> executor.Version:
    """Return the version as MLflow's PyFuncModel that takes *features*: names and positions."""
    return replace(contract.loadable.pyfunc, features=features, outputs=contract.results)


def _results(planned: Plan) -> list[DataType]:
    """Return the types of the predictions that workers give beside each other."""
    outputs = [side.contracts[0].outputs for side in planned.sides]
    return [each[0].dataType if len(each) == 1 else each for each in outputs]


class _NotEligible(Exception):
    """Why the arrow engine would not give what MLflow gives."""


def _arrow(udf: Plan, scan: ScanName) -> tuple[Plan, float]:
    """Return the plan of the arrow engine, and the seconds that a row takes."""
    managers = {contract.loadable.env_manager for contract in udf.contracts} - {"local"}
    if managers:
        raise _NotEligible(f"env_manager {listed(managers)} is MLflow's own")
    columns = _features(udf.contracts)
    if odd := _odd(udf.runner, columns):
        raise _NotEligible(odd)
    try:
        for name in udf.keep:
            arrow_type(udf.schema[name].dataType)
    except PySparkException as error:
        raise _NotEligible(f"Arrow cannot hold the table: {error}") from error
    aligned = executor.counted("aligned")
    versions, told, seconds_a_row = _probed(udf, columns, scan)
    modes = listed(dict.fromkeys(version.mode for version in _members(versions)))
    reason = f"{modes}, equal to MLflow's PyFuncModel on {told}{_told_of_order(aligned)}"
    arrow = replace(udf, engine="arrow", reason=reason, versions=versions, columns=columns)
    return arrow, seconds_a_row


_OnRows = tuple[str, float]
"""On which rows versions were probed, and the seconds that a row takes."""


def _probed(
    udf: Plan, columns: Sequence[StructField], scan: ScanName
) -> tuple[tuple[executor.Version | executor.Family, ...], str, float]:
    """Return what workers get of each side, on which rows all were probed, and seconds a row."""
    families = [
        _family(udf, side.family, side.contracts, columns, scan)
        for side in udf.sides
        if side.family is not None
    ]
    contracts = [side.contracts[0] for side in udf.sides if side.family is None]
    versions, on_rows = _versions(udf, contracts, columns, scan) if contracts else ((), [])
    every = [*on_rows, *[on_its_own for _, on_its_own in families]]
    left, left_families = iter(versions), (family for family, _ in families)
    in_order = tuple(
        next(left) if side.family is None else next(left_families) for side in udf.sides
    )
    return in_order, "; on ".join(told for told, _ in every), sum(seconds for _, seconds in every)


def _versions(
    udf: Plan, contracts: Sequence[Contract], columns: Sequence[StructField], scan: ScanName
) -> tuple[tuple[executor.Version, ...], list[_OnRows]]:
    """Probe versions of which each scores all rows."""
    sample = _sample(udf, columns, scan)

    def elsewhere() -> pa.RecordBatch:
        try:
            if udf.selection is None:
                raise NotEligible("the rows are no snapshot's")  # noqa: TRY301 - as all others
            rows = scanning.scattered(udf.selection, columns, _PROBE_ROWS)
        except NotEligible as not_eligible:
            udf.runner.start(f"Spark looks for rows that the model can score: {not_eligible}")
            return _sample(replace(udf, source=udf.rows.orderBy(F.rand(0))), columns)
        return rows.combine_chunks().to_batches()[0]

    versions = tuple(
        _version(udf.runner, contract, _positions(contract, columns), sample, elsewhere)
        for contract in contracts
    )
    seconds = _seconds_a_row(udf.runner, versions, contracts, sample)
    return versions, [(f"{sample.num_rows} rows", seconds)]


def _family(
    udf: Plan,
    assigned: Assignment,
    contracts: Sequence[Contract],
    columns: Sequence[StructField],
    scan: ScanName,
) -> tuple[executor.Family, _OnRows]:
    """Probe one version of each kind, on rows of its own segments, for all that are alike.

    Those alike differ in what was learned, not in how they are loaded and called. Of a kind
    without a row at hand, and where there are very many, MLflow's own way is taken, which needs no
    probe. That a model takes a block of numbers is seen by workers, for each anew.
    """
    named = StructField(str(assigned.by), udf.schema[str(assigned.by)].dataType)
    sample = _sample(udf, [*columns, named], scan, _PROBE_ROWS * _SEGMENTS_PROBED)
    numbers = [assigned.numbers.get(each) for each in _texts(sample.column(len(columns)))]
    kinds: dict[str, list[int]] = {}
    for number, contract in enumerate(contracts):
        kinds.setdefault(_kind_of_model(contract), []).append(number)
    versions = [_as_pyfunc(each, _positions(each, columns)) for each in contracts]
    rows_at_once = executor.BYTES_GATHERED * sample.num_rows / max(1, sample.nbytes)
    rows_a_call = max(1.0, rows_at_once / len(assigned.numbers))
    probed, seconds = 0, [0.0]
    for alike in list(kinds.values())[:_SEGMENTS_PROBED]:
        of_each = Counter(number for number in numbers if number in set(alike))
        if not of_each:
            continue
        first = of_each.most_common(1)[0][0]
        places = [n for n, number in enumerate(numbers) if number == first][:_PROBE_ROWS]
        rows = sample.take(pa.array(places))
        contract = contracts[first]
        version = _version(udf.runner, contract, _positions(contract, columns), rows)
        a_row = _seconds_a_row(udf.runner, [version], [contract], rows)
        seconds.append(a_row + _seconds_a_call(udf.runner, version, rows) / rows_a_call)
        probed += rows.num_rows
        for number in alike:
            versions[number] = _in_mode(version.mode, contracts[number], versions[number])
        # Its few rows may all have failed, which proves nothing.
        versions[first] = replace(version, proven=False)
    kinds_probed = len(seconds) - 1
    told = f"{probed} rows, of one version of each of {kinds_probed} kinds"
    family = executor.Family(
        uri=None if udf.tells else assigned.uri,
        members=tuple(versions),
        position=len(columns),
        numbers=assigned.numbers,
    )
    return family, (told, max(seconds))


def _members(
    versions: Sequence[executor.Version | executor.Family],
) -> list[executor.Version]:
    """Return *versions* with the members of families in their place."""
    return [
        member
        for version in versions
        for member in (version.members if isinstance(version, executor.Family) else [version])
    ]


def _texts(segments: pa.Array) -> list[str | None]:
    return [None if each is None else str(each) for each in segments.to_pylist()]


def _kind_of_model(contract: Contract) -> str:
    """Return what decides how a version is loaded and called, whatever it has learned."""
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


def _features(contracts: Sequence[Contract]) -> tuple[StructField, ...]:
    """Return the columns that the features come from, each once a type."""
    return tuple(
        dict.fromkeys(
            StructField(contract.sources[field.name], field.dataType)
            for contract in contracts
            for field in contract.features
        )
    )


def _odd(runner: Runner, columns: Sequence[StructField]) -> str:
    """Return why the arrow engine does not take *columns*, or nothing where it does."""
    odd = [
        f"{column.name} ({column.dataType.simpleString()})"
        for column in columns
        if type(column.dataType) not in _FEATURES
    ]
    if odd:
        return f"it does not take the columns {listed(odd)}"
    zone = runner.setting(_ZONE, "UTC")
    if zone != "UTC" and any(isinstance(column.dataType, _MOMENTS) for column in columns):
        return f"it reads times in UTC, and {_ZONE} is {zone}"
    return ""


def _positions(
    contract: Contract, columns: Sequence[StructField]
) -> tuple[tuple[str | int, int], ...]:
    """Return the features by the model's names, with their positions in a batch of *columns*."""
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
    """Return the CPU seconds of a row more: a batch has costs of its own, which do not count."""
    small = pa.Table.from_batches([sample])
    large = pa.concat_tables([small] * _TIMES).combine_chunks().to_batches()[0]
    seconds = []
    for rows in (sample, large):
        started = executor.cpu_seconds()
        for version, contract in zip(versions, contracts, strict=True):
            _attempted(runner, version, contract, rows)
        seconds.append(executor.cpu_seconds() - started)
    more = seconds[1] - seconds[0]
    return float(max(0.0, more / (large.num_rows - sample.num_rows)))


def _seconds_a_call(runner: Runner, version: executor.Version, rows: pa.RecordBatch) -> float:
    """Return the CPU seconds of a call more, for a few *rows*, beside what it takes to ask."""
    seconds = []
    for times in (1, _TIMES):
        started = executor.cpu_seconds()
        runner.call(executor.attempt, [version] * times, rows)
        seconds.append(executor.cpu_seconds() - started)
    return float(max(0.0, (seconds[1] - seconds[0]) / (_TIMES - 1)))


def sample(planned: Plan, most: int) -> pa.RecordBatch | None:
    """Return what the arrow engine sends of the first rows, *most* of them; none without a row."""
    scan: ScanName = "direct" if planned.direct is not None else "spark"
    try:
        return _sample(planned, planned.columns, scan, most)
    except _NotEligible:
        return None


def _sample(
    planned: Plan,
    columns: Sequence[StructField],
    scan: ScanName = "spark",
    most: int = _PROBE_ROWS,
) -> pa.RecordBatch:
    """Return *columns* of the first rows."""
    try:
        if planned.selection is None or scan == "spark":
            raise NotEligible("Spark shall read")  # noqa: TRY301 - as all others
        table = scanning.first(planned.selection, columns, most)
    except NotEligible:
        table = collected(planned.rows.select(*_sent(columns)).limit(most))
    if not table.num_rows:
        raise _NotEligible("there are no rows to probe it with")
    return table.combine_chunks().to_batches()[0]


def _check_hope(
    runner: Runner,
    version: executor.Version,
    contract: Contract,
    tried: int,
    elsewhere: pa.RecordBatch,
) -> None:
    """Hold that a version can score rows at all, which scored none of the many *tried*.

    Those may all be of one bad day, so as many from *elsewhere* in the table are tried.
    """
    _, why = _attempted(runner, version, contract, elsewhere)
    if not why.null_count:
        first = why[0].as_py()[0]
        raise ScoringFailed(
            version.uri,
            f"any of {tried + elsewhere.num_rows} rows tried",
            f"{first['type']}: {first['message']}",
        )


def _sent(columns: Sequence[StructField]) -> list[Column]:
    return [F.col(f"`{c.name}`").cast(c.dataType).alias(f"f{n}") for n, c in enumerate(columns)]


def _version(
    runner: Runner,
    contract: Contract,
    features: tuple[tuple[str | int, int], ...],
    sample: pa.RecordBatch,
    elsewhere: Callable[[], pa.RecordBatch] | None = None,
) -> executor.Version:
    """Return what a worker needs of a version, in the fastest mode that gives MLflow's values.

    *elsewhere* gives rows of other places than those of *sample*, should these tell nothing.
    """
    pyfunc = _as_pyfunc(contract, features)
    expected, why = _attempted(runner, pyfunc, contract, sample)
    if elsewhere is not None and not why.null_count and sample.num_rows >= _HOPELESS:
        _check_hope(runner, pyfunc, contract, sample.num_rows, elsewhere())
    if expected.null_count == len(expected):  # on none of them could two ways differ
        return pyfunc
    for version in _candidates(runner, pyfunc, contract):
        if _gives(runner, version, sample, (expected, why), exact=_is_exact(runner, version)):
            return version
    return pyfunc


def _as_pyfunc(contract: Contract, features: tuple[tuple[str | int, int], ...]) -> executor.Version:
    """Return a version as MLflow's PyFuncModel, with what becomes of nulls."""
    places, names = dict(features), contract.names
    nulls = tuple(
        (names[name], places[names[name]], rule)
        for name, rule in contract.nulls.items()
        if rule in {"null", "quarantine"}
    )
    return replace(_bound(contract, features), nulls=nulls)


def _in_mode(
    mode: Literal["block", "frame", "pyfunc"], contract: Contract, pyfunc: executor.Version
) -> executor.Version:
    """Return a version in the mode in which one like it was probed."""
    if mode == "pyfunc":
        return pyfunc
    return replace(_as_native(contract, pyfunc), mode=mode, proven=False)


def _as_native(contract: Contract, pyfunc: executor.Version) -> executor.Version:
    """Return a version as the scikit-learn model that it is."""
    return replace(
        contract.loadable.native,
        features=pyfunc.features,
        outputs=pyfunc.outputs,
        nulls=pyfunc.nulls,
    )


def _candidates(
    runner: Runner, pyfunc: executor.Version, contract: Contract
) -> Iterator[executor.Version]:
    """Yield the faster ways to apply a scikit-learn model, the fastest first."""
    if not contract.loadable.is_native:
        return
    raw = _as_native(contract, pyfunc)
    kinds = {field.dataType for field in contract.features}
    if kinds <= {DoubleType()} or kinds <= {FloatType()}:
        names = runner.call(executor.describe, raw).features
        if names is None or tuple(name for name, _ in raw.features) == names:
            yield replace(raw, mode="block")
    yield raw


def _gives(
    runner: Runner,
    version: executor.Version,
    sample: pa.RecordBatch,
    expected: tuple[pa.Array, pa.Array],
    *,
    exact: bool,
) -> bool:
    """Tell whether *version* gives the predictions *expected*, and fails on the same rows."""
    (found,), why = runner.call(executor.attempt, [version], sample)
    if not why.is_null().equals(expected[1].is_null()):
        return False
    return executor.alike(found, expected[0], exact=exact)


def _is_exact(runner: Runner, version: executor.Version) -> bool:
    """Tell whether the model decides by comparisons, so that any difference is an error."""
    return runner.call(executor.describe, version).module.startswith(_EXACT)


def _placed(
    planned: Plan, kept: int, *, here: bool = False
) -> list[executor.Version | executor.Family]:
    """Return the versions with their features after the *kept* columns and their files at hand.

    *Here* are the driver and its workers.
    """
    members = _members(planned.versions)
    folders = iter([v.folder for v in members] if here else _shipped(planned, members))

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
            own = tuple(placed(member) for member in version.members)
            sides.append(replace(version, members=own, position=position))
        else:
            sides.append(placed(version))
    return sides


def _shipped(planned: Plan, versions: Sequence[executor.Version]) -> list[str]:
    """Ship the artifacts to the executors, once a session; in local mode they are there already.

    Those of segments go as one archive: executors fetch archives one after the other.
    """
    runner = planned.runner
    if not runner.is_started or classic.is_local(runner.spark):
        return [version.folder for version in versions]
    names = [_named_by(version.key) for version in versions]
    if not planned.has_families:
        for name, version in zip(names, versions, strict=True):
            classic.ship(runner.spark, name, {"": version.folder})
        return names
    whole = _named_by(" ".join(["segments", *[version.key for version in versions]]))
    folders = {n: version.folder for n, version in zip(names, versions, strict=True)}
    classic.ship(runner.spark, whole, folders)
    return [f"{whole}/{name}" for name in names]


def _named_by(key: str) -> str:
    return f"lakescore-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back what MLflow says on every call of the environment that we chose on purpose."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
