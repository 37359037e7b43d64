"""The request for predictions, and the plan that an engine makes of it before any row is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from lakescore import executor, lineage, scanning, signature
from lakescore.errors import ConfigError
from lakescore.logs import NotEligible
from lakescore.provenance import VERSION_COLUMNS
from lakescore.runner import Runner
from lakescore.slicing import RESERVED_PREFIX, SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    import pyarrow as pa
    from pyspark.sql import DataFrame

    from lakescore.assignment import Assignment
    from lakescore.filing import Place
    from lakescore.options import EngineName
    from lakescore.signature import Binding, Contract

ERRORS = f"{RESERVED_PREFIX}errors"
"""The column with the errors of the versions that could not score a row."""
PREDICTED = f"{RESERVED_PREFIX}p"
"""The prefix of the column of a side's prediction; the number of the side follows."""
SHOWN_COLUMN = "model_uri"
"""The column that names the version of a row to people, if each segment has its own version."""


class EngineRefused(ConfigError):
    """The requested engine cannot give the same values as MLflow."""

    def __init__(
        self, engine: str, reason: str, advice: str = "give engine=auto or spark_udf"
    ) -> None:
        super().__init__(f"engine {engine} cannot be used: {reason}; {advice}")


class EngineIneligible(Exception):
    """The reason why an engine would not give MLflow's values for a request."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The rows to score, the columns to keep, and the versions."""

    source: DataFrame | scanning.Selection
    """The rows to score: a frame that Spark reads, or a selection of a snapshot."""
    keep: tuple[str, ...]
    """The columns of `rows` that the result has beside the predictions."""
    sides: tuple[Binding, ...]
    """One for each column of predictions: a version, or a family with one version per segment."""
    shown_family: Assignment | None = None
    """The family of the only side, if each row must name the version that scored it."""
    expected: executor.Expected | None = None
    """What the values of the rows must be like, in columns of *keep*; None for anything."""

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
        """Whether a column of predictions comes from a family, with one version per segment."""
        return any(side.family for side in self.sides)

    @property
    def contract(self) -> Contract:
        """The contract of the only side. All versions of a family give the same columns."""
        if len(self.sides) > 1:
            raise TypeError("several versions score each row")
        return self.contracts[0]

    @property
    def feature_columns(self) -> tuple[StructField, ...]:
        """The columns of the features: one for each column and type."""
        return tuple(
            dict.fromkeys(
                StructField(contract.sources[feature.name], feature.dataType)
                for contract in self.contracts
                for feature in contract.features
            )
        )

    @property
    def result_types(self) -> list[DataType]:
        """The types of the columns of predictions, one a side."""
        outputs = [side.contracts[0].outputs for side in self.sides]
        return [columns[0].dataType if len(columns) == 1 else columns for columns in outputs]

    @property
    def version_columns(self) -> list[StructField]:
        """The columns that name the version of a row, if each segment has its own version."""
        if self.shown_family is None:
            return []
        return [StructField(name, lineage.kind_of(name)) for name in VERSION_COLUMNS]

    @property
    def environments(self) -> dict[str, dict[str, str]]:
        """The environment of each version whose requirements are not all met here, by URI."""
        environments = {}
        for loadable in (contract.loadable for contract in self.contracts):
            facts = {"reason": loadable.environment_reason}
            if (own := loadable.environment) is not None:
                facts = {"name": "own", **facts, "python": own.python, "digest": own.digest}
                environments[loadable.model.uri] = facts
            elif loadable.environment_reason:
                environments[loadable.model.uri] = {"name": "shared", **facts}
        return environments

    @property
    def row_rules(self) -> str:
        """The policies for nulls that the job asks for and that keep rows from a model, as text."""
        rules = {
            name: rule
            for contract in self.contracts
            for name, rule in contract.worker_nulls.items()
            if rule == contract.asked_nulls.get(name)
        }
        return ", ".join(f"{name}: {rule}" for name, rule in rules.items())

    @property
    def decisive(self) -> list[str]:
        """The columns of predictions, and the column of the version if segments have their own."""
        names = [column.name for column in self.version_columns if column.name == SHOWN_COLUMN]
        return [*self.contract.written, *names]

    @property
    def output_columns(self) -> list[StructField]:
        """The columns of `scoring.tried`, except the reports of tasks."""
        contract = self.contract
        kept = [StructField(name, self.schema[name].dataType) for name in self.keep]
        outputs = [StructField(output.name, output.dataType) for output in contract.outputs]
        if (decision := contract.decision) is not None:
            outputs.append(StructField(signature.DECISION, decision_type(decision.below)))
        return [*kept, *outputs, *self.version_columns]


@dataclass(frozen=True, kw_only=True)
class Plan(Request, ABC):
    """How an engine applies the versions to the rows. It is fixed before any row is scored.

    Each engine is a class of plans. Its module has a function `prepare` that makes a plan of a
    request, or refuses it.
    """

    engine: ClassVar[EngineName]
    """The engine's name, as in the job's file."""
    sets_rows_aside: ClassVar[bool]
    """Whether tasks set rows aside that a version cannot score. If not, such a row ends the run."""
    counts_work: ClassVar[bool]
    """Whether tasks report their work: rows, loads of models, workers."""

    reason: str
    """The reason for this engine."""
    versions: tuple[executor.Version | executor.Family, ...] = ()
    """The versions as this process can call them, one a side, if the engine does so."""
    direct: scanning.Direct | None = None
    """The files that workers read themselves, if they do."""
    checked: Mapping[str, Any] = field(default_factory=dict)
    """The facts of `executor.Checks` about the rows, if they were checked before."""

    @property
    @abstractmethod
    def tasks(self) -> int:
        """The number of tasks that score the rows."""

    @abstractmethod
    def batches(self, rows: int) -> int:
        """Return the estimated number of batches for which a version is called, if none fails.

        For batches that Spark makes, the estimate assumes that *rows* are spread evenly over the
        tasks.
        """

    @abstractmethod
    def apply(self, failing: executor.Failing, *, says: bool = False) -> DataFrame:
        """Return the kept columns, then one column a side, named by `PREDICTED` and a number.

        A side's column is a struct if the side has several outputs. `Request.version_columns`
        follow. If the engine sets rows aside, `ERRORS` follows if *failing* is `null`. If it counts
        its work, `executor.SAID` follows if *failing* is `aside` or *says* is true.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the choices for the receipt."""

    @abstractmethod
    def __str__(self) -> str:
        """Return one line with the choices and their reasons."""

    def limit(self, most: int) -> Self:
        """Return the plan for at most *most* of the rows, which Spark reads."""
        return replace(self, source=self.rows.limit(most), direct=None)

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that workers keep before the predictions."""
        return self.direct.carried if self.direct is not None else self.keep

    @property
    def is_here(self) -> bool:
        """Whether workers of this machine read and score the rows without Spark."""
        return self.direct is not None and not self.runner.is_started

    @property
    def sent(self) -> list[DataType]:
        """The types of the columns that Spark sends to workers, except the slice's name.

        That name is also the name of a folder of the output, so it is short.
        """
        kept = [self.schema[name].dataType for name in self.keep if name != SLICE]
        return [*kept, *[column.dataType for column in self.feature_columns]]

    @property
    def slice_at(self) -> int | None:
        """The position of the slice's name among the columns in workers, if it has one."""
        return None

    def places(self) -> dict[str, Place]:
        """Return the places of the columns of `scoring.score` in the batches of workers.

        Raises:
            NotEligible: workers of this engine do not write files.
        """
        raise NotEligible(f"the engine is {self.engine}")

    def sample(self, most: int) -> pa.RecordBatch | None:  # noqa: ARG002 - for other engines
        """Return at most *most* of the first rows, in the form in which `versions` are called.

        The result is None if there are no rows, or if this process cannot call the versions.
        """
        return None


def decision_type(value: object) -> DataType:
    """Return the type of a column that holds decisions like *value*."""
    kinds: dict[type, DataType] = {bool: BooleanType(), int: LongType(), float: DoubleType()}
    return kinds.get(type(value), StringType())
