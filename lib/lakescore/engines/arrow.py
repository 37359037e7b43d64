"""The engine arrow: workers get Arrow batches, or read the files, and load a version once.

Several versions score a row in one pass. A version is called in the fastest way that is proven to
give MLflow's values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import BinaryType, StructField, StructType

from lakescore import classic, executor, scanning, signature
from lakescore.arrow import arrow_type, collected, struct
from lakescore.engines import equality, here, probing
from lakescore.engines.plan import ERRORS, PREDICTED, EngineIneligible, Plan, Request
from lakescore.engines.shipping import ship, ship_environments
from lakescore.executor import SAID
from lakescore.filing import Place
from lakescore.logs import NotEligible
from lakescore.slicing import SLICE
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from pyspark.sql import DataFrame

    from lakescore.options import EngineName, ScanName


@dataclass(frozen=True, kw_only=True)
class ArrowPlan(Plan):
    """A plan by which workers apply the versions to Arrow batches."""

    engine: ClassVar[EngineName] = "arrow"
    sets_rows_aside: ClassVar[bool] = True
    counts_work: ClassVar[bool] = True

    scan_reason: str = ""
    """The reason if workers do not read the files."""
    differing: Mapping[str, str] = field(default_factory=dict)
    """How the packages installed here differ, for each version in its own environment, by URI."""
    spread: int | None = None
    """The number of partitions into which Spark spreads the rows first, if Spark reads them."""

    @property
    def carried_fields(self) -> Sequence[StructField]:
        """The fields of `carried`."""
        if self.direct is not None:
            return self.direct.fields
        return [self.schema[name] for name in self.keep]

    @property
    def slice_at(self) -> int | None:
        """The position in `carried` of the column that names a row's slice, if there is one."""
        name = self.direct.selection.column if self.direct is not None else SLICE
        return self.carried.index(name) if name in self.carried else None

    @property
    def tasks(self) -> int:
        """The number of tasks that score the rows."""
        if self.direct is not None:
            return len(self.direct.scan.tasks)
        return self.spread or classic.tasks(self.rows)

    def batches(self, rows: int) -> int:
        """Return the estimated number of batches in workers; exact if these read the files."""
        if self.direct is not None:
            return self.direct.batches
        tasks = max(1, min(rows, self.tasks))
        most = int(self.runner.setting("spark.sql.execution.arrow.maxRecordsPerBatch") or 0)
        return tasks * math.ceil(math.ceil(rows / tasks) / most) if most > 0 else tasks

    def apply(self, failing: executor.Failing, *, says: bool = False) -> DataFrame:
        """Return the kept columns, then one column a side; see `Plan.apply`."""
        says = says or failing == "aside"
        applied = self._map_in_arrow(self._worker_schema(failing, says=says), failing, says=says)
        predicted = [f"{PREDICTED}{n}" for n in range(len(self.sides))]
        predicted += [column.name for column in self.version_columns]
        errors = [ERRORS] if failing == "null" else []
        # All at once, since a table can have columns k1 and p0 too.
        names = [*self.carried, *predicted, *errors, SAID][: len(applied.columns)]
        named = applied.toDF(*names)
        return named if self.direct is None else scanning.as_selected(named, self.direct, self.keep)

    def limit(self, most: int) -> Self:
        """Return the plan for at most *most* of the rows, which Spark reads and need not spread."""
        return replace(super().limit(most), spread=None)

    def write_files(self, sink: executor.Sink) -> pa.Table:
        """Let workers write the rows that could be scored; return `executor.FILES`."""
        if self.direct is None:
            return collected(self._map_in_arrow(struct(executor.FILES), "aside", sink=sink))
        return self.runner.run(self.predictor("aside", sink=sink), self.tasks, executor.FILES)

    def predictor(
        self, failing: executor.Failing, *, says: bool = True, sink: executor.Sink | None = None
    ) -> Callable[[], executor.Task]:
        """Return a factory for the function of a task; see `executor.predictor`."""
        kept = len(self.carried)
        return partial(
            executor.predictor,
            self.placed_versions(),
            kept=kept,
            scan=self.direct.scan if self.direct is not None else None,
            tells=self.member_facts(),
            failing=failing,
            says=executor.listed_at_most(self.tasks) if says else None,
            sink=sink,
            expected=self.placed_expected(),
        )

    def placed_versions(self, *, is_here: bool = False) -> list[executor.Version | executor.Family]:
        """Return the versions with features placed after the kept columns, and with local files.

        If *is_here* is true, the tasks run in this process and its workers, which need no copy of
        the files.
        """
        kept, members = len(self.carried), list_members(self.versions)
        folders = iter(
            [version.folder for version in members]
            if is_here
            else ship(self.runner, members, as_one=self.has_families)
        )
        loadables = (contract.loadable for contract in self.contracts)
        shipped = {} if is_here else ship_environments(self.runner, loadables)

        def placed(version: executor.Version) -> executor.Version:
            return replace(
                version,
                features=tuple((name, kept + position) for name, position in version.features),
                nulls=tuple(
                    (name, kept + position, rule) for name, position, rule in version.nulls
                ),
                folder=next(folders),
                environment=shipped.get(version.environment, version.environment),
            )

        sides: list[executor.Version | executor.Family] = []
        for version, side in zip(self.versions, self.sides, strict=True):
            if isinstance(version, executor.Family):
                position = self.carried.index(str(side.family and side.family.by))
                members_placed = tuple(placed(member) for member in version.members)
                sides.append(replace(version, members=members_placed, position=position))
            else:
                sides.append(placed(version))
        return sides

    def placed_expected(self) -> executor.Expected | None:
        """Return what the values must be like, for the columns that workers get."""
        if self.expected is None:
            return None
        return self.expected.placed(self.carried, self.slice_at)

    def member_facts(self) -> pa.RecordBatch | None:
        """Return the version columns of each member of `shown_family`, if there is one."""
        if (family := self.shown_family) is None:
            return None
        facts = [family.facts(model) for model in family.models]
        schema = pa.schema([(f.name, arrow_type(f.dataType)) for f in self.version_columns])
        return pa.RecordBatch.from_pylist(facts, schema)

    def places(self) -> dict[str, Place]:
        """Return the places of the columns of `scoring.score` in the batches of workers."""
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
        for n, column in enumerate(self.version_columns):
            places[column.name] = Place(last + 1 + n)
        return places

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
    def environments(self) -> dict[str, dict[str, str]]:
        """The environment of each version whose requirements are not all met here, by URI."""
        differing = {uri: {"here": text} for uri, text in self.differing.items()}
        return {uri: facts | differing.get(uri, {}) for uri, facts in super().environments.items()}

    def sample(self, most: int) -> pa.RecordBatch | None:
        """Return at most *most* of the first rows as workers get them; None without rows."""
        scan: ScanName = "direct" if self.direct is not None else "spark"
        return probing.read_sample(self, self.feature_columns, scan, most)

    def facts(self) -> dict[str, Any]:
        """Return the choices for the receipt."""
        modes = [version.mode for version in list_members(self.versions)]
        facts: dict[str, Any] = {
            "name": self.engine,
            "reason": self.reason,
            "modes": sorted(set(modes)) if self.has_families else modes,
            "own_processes": self.isolated,
        }
        if self.direct is not None:
            return facts | {
                "scan": "direct", "tasks": self.tasks, "bytes_read": self.direct.size
            }  # fmt: skip
        return facts | {"scan": "spark", "scan_reason": self.scan_reason, "spread": self.spread}

    def __str__(self) -> str:
        """Return one line with the choices and their reasons."""
        line = f"engine {self.engine}: {self.reason}"
        for loadable in (contract.loadable for contract in self.contracts):
            if (own := loadable.environment) is not None:
                line += f"; {loadable.model.uri} in its own environment, with Python {own.python}"
                line += f" ({loadable.environment_reason}"
                differing = self.differing.get(loadable.model.uri)
                line += f"; {differing})" if differing else ")"
        if self.direct is not None:
            return f"{line}; workers read the files, in {counted(self.tasks, 'task')}"
        spread = f", spread over {self.spread} partitions" if self.spread else ""
        return f"{line}; Spark reads them ({self.scan_reason}){spread}"

    def _map_in_arrow(
        self,
        schema: StructType,
        failing: executor.Failing,
        *,
        says: bool = True,
        sink: executor.Sink | None = None,
    ) -> DataFrame:
        """Return the rows of workers in *schema*; kept columns are k0, k1, ...."""
        predict = self.predictor(failing, says=says, sink=sink)()
        if self.direct is not None:  # workers read the files, and Spark only distributes the tasks
            frame = self.runner.start("Spark hands rows on").range(0, self.tasks, 1, self.tasks)
            return frame.mapInArrow(predict, schema)
        rows = self.rows.repartition(self.spread) if self.spread else self.rows
        carried = [F.col(f"`{name}`").alias(f"k{n}") for n, name in enumerate(self.keep)]
        sent = rows.select(*carried, *probing.cast_columns(self.feature_columns))
        return sent.mapInArrow(predict, schema)

    def _worker_schema(self, failing: executor.Failing, *, says: bool) -> StructType:
        carried = enumerate(self.carried_fields)
        kept = [StructField(f"k{n}", field.dataType) for n, field in carried]
        predicted = [StructField(f"p{n}", kind) for n, kind in enumerate(self.result_types)]
        fields = [*kept, *predicted, *self.version_columns]
        if failing == "null":
            fields += struct(pa.schema({"why": pa.list_(executor.WHY)})).fields
        if says:
            fields.append(StructField(SAID, BinaryType()))
        return StructType(fields)


def prepare(request: Request, scan: ScanName) -> ArrowPlan:
    """Return the plan of this engine, after a probe of a few rows.

    Args:
        request: the request.
        scan: `direct` lets workers read the files if they get exactly the rows that Spark reads.

    Raises:
        EngineIneligible: the engine would not give MLflow's values, or there are no rows.
        ScoringFailed, ModuleMissing, ResultUnfit, FeaturesLeftOut: a model cannot score any row.
    """
    _check_eligible(request)
    aligned = executor.counted("aligned")
    proof = equality.prove(request, scan)
    modes = listed(dict.fromkeys(version.mode for version in list_members(proof.sides)))
    note = probing.order_note(aligned)
    planned = ArrowPlan(
        reason=f"{modes}, equal to {_describe_references(request)} on {proof.rows}{note}",
        source=request.source,
        keep=request.keep,
        sides=request.sides,
        shown_family=request.shown_family,
        expected=request.expected,
        versions=proof.sides,
        differing=here.describe_differences(request, scan),
    )
    return _choose_reader(planned, scan, proof.seconds_a_row)


def _describe_references(request: Request) -> str:
    """Return whose values the versions give."""
    names = [
        f"{contract.loadable.library}'s own model"
        if contract.loadable.is_library_reference
        else "MLflow's PyFuncModel"
        for contract in request.contracts
    ]
    return " and ".join(dict.fromkeys(names))


def _check_eligible(request: Request) -> None:
    managers = {contract.loadable.env_manager for contract in request.contracts} - {"local"}
    if managers:
        raise EngineIneligible(f"env_manager {listed(managers)} is MLflow's own")
    if refusal := probing.find_refusal(request.runner, request.feature_columns):
        raise EngineIneligible(refusal)
    try:
        for name in request.keep:
            arrow_type(request.schema[name].dataType)
    except PySparkException as error:
        raise EngineIneligible(f"Arrow cannot hold the table: {error}") from error


def _choose_reader(planned: ArrowPlan, scan: ScanName, seconds_a_row: float) -> ArrowPlan:
    """Return *planned* with the files that workers read themselves, or with Spark as reader."""
    runner, selection = planned.runner, planned.selection
    if selection is not None and scan == "direct":
        try:
            direct = scanning.direct(
                selection, planned.keep, planned.feature_columns, seconds_a_row=seconds_a_row
            )
            runner.choose(direct.rows * seconds_a_row)
            return replace(planned, direct=direct)
        except NotEligible as not_eligible:
            scan_reason = str(not_eligible)
    else:
        scan_reason = "asked for" if selection else "the rows are not a snapshot's"
    runner.start(f"Spark reads the rows: {scan_reason}")
    spread = scanning.spread(planned.rows, seconds_a_row=seconds_a_row, selection=selection)
    return replace(planned, scan_reason=scan_reason, spread=spread)


def list_members(
    versions: Sequence[executor.Version | executor.Family],
) -> list[executor.Version]:
    """Return *versions*, with each family replaced by its members."""
    return [
        member
        for version in versions
        for member in (version.members if isinstance(version, executor.Family) else [version])
    ]
