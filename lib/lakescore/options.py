"""Options: the settings that a job's file and the modules share, as types.

Nothing here imports another module of lakescore, so a job's file is checked without Spark, and a
renamed setting is an error of the type checker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

EngineName: TypeAlias = Literal["auto", "arrow", "spark_udf", "spark_ml"]
ENGINES: Mapping[EngineName, str] = {
    "spark_udf": "MLflow's own function",
    "arrow": "faster",
    "spark_ml": "Spark itself, for pipelines of Spark ML",
}
"""Except `auto`, which chooses one of them; with the words that describe an engine to people."""
FAMILY_ENGINES: tuple[EngineName, ...] = ("arrow", "auto")
"""Those that can score with a model per segment."""
ScanName: TypeAlias = Literal["direct", "spark"]
RunnerName: TypeAlias = Literal["auto", "local", "spark"]
NullRule: TypeAlias = Literal["model", "fail", "null", "quarantine"]
NULL_RULES: Mapping[NullRule, str] = {
    "model": "pass it to the model",
    "fail": "score no rows at all",
    "null": "publish a null",
    "quarantine": "put the row into the quarantine",
}
"""With the words that describe a rule to people. `model` changes nothing, `fail` belongs to the
check of the rows before they are scored, and workers apply all other rules to the rows."""
OutputName: TypeAlias = Literal["prediction", "proba"]
EnvManager: TypeAlias = Literal["local", "virtualenv", "uv", "conda"]
EnvironmentName: TypeAlias = Literal["auto", "shared", "own"]
ENVIRONMENTS: Mapping[EnvironmentName, str] = {
    "auto": "own where the installed packages differ in a way that matters",
    "shared": "the packages installed here",
    "own": "the packages that the version was logged with",
}
"""With the words that describe an environment to people."""
ChanceName: TypeAlias = Literal["auto", "rows", "slices"]
CHANCES: Mapping[ChanceName, str] = {
    "rows": "those that two samples of independent rows show",
    "slices": "those that the slices of the baseline show among themselves",
    "auto": "slices if the baseline has enough of them (40 at the usual level), otherwise rows",
}
"""With the words that describe a kind of chance to people."""
MEASURES: tuple[str, ...] = (
    "jensen_shannon",
    "psi",
    "wasserstein",
    "total_variation",
    "null_share",
    "nan_share",
    "infinite_share",
    "outside_share",
    "new_share",
    "lost_share",
)
"""The measures of drift. Numbers have no new or lost values; categories have no range."""
ProblemType: TypeAlias = Literal["regression", "binary", "multiclass"]
GateMode: TypeAlias = Literal["disabled", "dry_run", "enforce"]
UnknownRule: TypeAlias = Literal["pass", "fail"]
"""Whether a gate passes if it does not know all slices."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a version is loaded and called."""

    output: OutputName = "prediction"
    """`proba` calls a classifier's `predict_proba`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of `predict`: texts, and lists and mappings of texts. The signature gives their
    types."""
    model_config: Mapping[str, Any] = field(default_factory=dict)
    """Configuration for the model's context, in the same form. The configuration that the model was
    logged with gives the types; values that it does not type are read as YAML."""
    environment: EnvironmentName = "auto"
    """The packages that the model runs with."""
    env_manager: EnvManager = "local"
    """The manager of the packages that the model runs with. All but `local` are MLflow's own, and
    install the packages that the model's files ask for."""


@dataclass(frozen=True, kw_only=True)
class ExpectOptions:
    """What the input of a score job must be like; each that is given."""

    values: Mapping[str, str] = field(default_factory=dict)
    """By column, a rule for its values; see `rules.parse_rule`."""
    nulls: Mapping[str, float] = field(default_factory=dict)
    """By column, the largest share of nulls in a slice."""
    least_rows: float | None = None
    most_rows: float | None = None
    """The number of rows of a slice, as multiples of the median of the slices before it."""
    of_last: int = 7
    """The number of earlier slices with rows that are counted."""
    newest: str | None = None
    """A column with dates or times, whose newest value has an age."""
    max_age_hours: float = math.inf


@dataclass(frozen=True, kw_only=True)
class BindOptions:
    """How the columns of a table become the features of a version."""

    read: tuple[str, ...] = ()
    """Further columns of the table that the job needs."""
    features: tuple[str, ...] = ()
    """The table's columns, in the order of a signature that does not name its columns."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By feature, the table's column if it has another name."""
    nulls: Mapping[str, NullRule] = field(default_factory=dict)
    """By feature, the rule for rows with a null there. The default is `quarantine` for integers and
    booleans, and `model` for other types."""
    threshold: float | None = None
    """The threshold of the decision; for two classes, of the second class's probability."""
    expect: ExpectOptions = field(default_factory=ExpectOptions)


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How versions are compared."""

    label: str
    """The holdout's column with the true value."""
    keys: tuple[str, ...] = ()
    """Columns that identify a row."""
    weight: str | None = None
    """The column of weights; each weight is 1 if it is left out."""
    slices: tuple[str, ...] = ()
    """Columns whose values divide the rows."""
    small: int = 100
    """Slices with fewer rows than this are marked."""
    problem_type: ProblemType | None = None
    rank_by: str | None = None
    """The metric that ranks; see `problem.infer` for the default."""
    positive_class: str | None = None
    custom_metrics: Mapping[str, str] = field(default_factory=dict)
    """By name, `package.module:function`."""
    confidence: float = 0.95
    """Of the intervals."""
    bootstraps: int = 400
    seed: int = 0
    """Of the bootstraps."""
    most_disagreements: int = 100
    """The maximum number of rows in the table of disagreements."""
    protected: tuple[str, ...] = ()
    """The metrics that gates check in every slice."""
    grouped: tuple[str, ...] = ()
    """The columns of slices between which gates compare rates."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The conditions for one metric; each that is given."""

    greater_is_better: bool
    threshold: float | None = None
    min_absolute_change: float | None = None
    min_relative_change: float | None = None


@dataclass(frozen=True, kw_only=True)
class LossLimit:
    """By how much a metric may be worse than the baseline's in any slice; each that is given."""

    max_loss: float | None = None
    max_relative_loss: float | None = None
    """As a fraction of the baseline's value in the slice."""

    @property
    def given(self) -> dict[str, float]:
        """The limits that are given, by name."""
        limits = {"max_loss": self.max_loss, "max_relative_loss": self.max_relative_loss}
        return {name: limit for name, limit in limits.items() if limit is not None}


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """The conditions that a candidate must meet, and the action if it does."""

    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """By metric."""
    slices: Mapping[str, LossLimit] = field(default_factory=dict)
    """By metric, the conditions for every slice."""
    unknown_slices: UnknownRule = "pass"
    rates: Mapping[str, float] = field(default_factory=dict)
    """By rate, the allowed difference between groups."""
    mode: GateMode = "enforce"
    signature: bool = True
    """Whether the candidate's signature must be compatible with the baseline's."""
    on_pass: str | None = None
    """`promote`, `set alias NAME`, or None."""


def family_name(reference: str) -> str:
    """Return the name of a family of versions: its reference without `models:/`."""
    return reference.removeprefix("models:/")
