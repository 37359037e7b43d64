"""What a job does: one frozen type a job, and one YAML file field for field like it."""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from lakescore.encoding import Spelt
from lakescore.errors import ConfigError, listed, nearest
from lakescore.home import home
from lakescore.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LARGEST_FILE = 1_000_000
_MOST_DAYS = 50_000
"""Of a range: 136 years, so a longer one is a mistake, or stands for `due`."""
_EMPTY = ("", "~", "null")
_FLOW = ("[", "{")
"""How YAML's lists and mappings begin; any other override is taken as it stands."""
_OF_ROWS = {
    *("comparing_run_id", "holdout_table", "holdout_version", "holdout_digest", "compared_at"),
    *("disagreement", "model_uri", "error_type", "error"),
}
"""Columns of the tables of rows that a comparison writes, beside the keys."""
_UNIONS = ("missing", "model", "versions")
"""Keys after which pydantic's errors name a case of a union, which stands in no file."""
_OTHER_ADDRESS = {"path": "table", "table": "path"}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_KEY = r"\w+(?:\.\w+)*"
_NAME = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,2}$"


class Strict(BaseModel):
    """What a file holds: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(Strict):
    """A Delta table: by path, or by name in the catalog."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="folder or URI of the table; a relative path lies under LAKESCORE_HOME",
    )
    table: str | None = Field(
        default=None, pattern=_NAME, description="name in the catalog: [[catalog.]schema.]table"
    )

    @model_validator(mode="before")
    @classmethod
    def _path_or_table(cls, value: object) -> object:
        if isinstance(value, str):
            if value in {"prediction", "proba"}:
                raise ValueError(
                    f"{value!r} is no table; what is written is chosen by the key prediction: "
                    f"give prediction: {value}"
                )
            raise ValueError(f"give {{path: {value}}}, or {{table: name}} for one of a catalog")  # noqa: TRY004 - a value in a file
        return value

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("give either path or table")
        return self

    @property
    def address(self) -> str:
        """The table's name, or its absolute path or URI (which alone holds a `/`)."""
        if self.table is not None:
            return self.table
        path = str(self.path)
        return path if _URI.match(path) else str(home() / Path(path).expanduser())


class InputTable(Table):
    """A Delta table at one version."""

    version: int | None = Field(
        default=None, ge=0, description="the table's version to read; the latest when left out"
    )


_RunId = Annotated[str, Field(pattern=r"^[\w.:+-]{1,200}$")]


class TrustFile(Strict):
    """The file of a trust policy."""

    trust: Trust = Field(description="which model versions may be loaded")


def policy(path: Path | None = None) -> Trust:
    """Read the trust policy at *path*, else at `LAKESCORE_TRUST`; the default rules without either.

    Raises:
        ConfigError: as `load`.
    """
    path = path or (Path(given) if (given := os.environ.get("LAKESCORE_TRUST")) else None)
    return load(TrustFile, path).trust if path else Trust()


def _policy_of(value: object) -> object:
    return policy(Path(value)) if isinstance(value, str) else value


class _Job(Strict):
    engine: Literal["auto", "arrow", "spark_udf"] = Field(
        default="auto",
        description="how models are applied: spark_udf is MLflow's own; arrow is faster, and auto "
        "takes it where a probe of real rows shows it equal",
    )
    scan: Literal["direct", "spark"] = Field(
        default="direct",
        description="who reads the table for the arrow engine: workers themselves, where that is "
        "exactly what Spark reads, or always Spark",
    )
    runner: Literal["auto", "local", "spark"] = Field(
        default="auto",
        description="what runs the tasks: Spark; local, processes of this machine without Spark; "
        "or these where PLACE is local and the rows take less time than to start Spark does",
    )
    experiment: str = Field(
        default="lakescore", min_length=1, description="MLflow experiment that the run is logged in"
    )
    run_id: _RunId | None = Field(
        default=None, description="id of the run; derived from its inputs when left out"
    )
    receipt: Path | None = Field(
        default=None, description="file that the receipt is written to, beside the last line"
    )
    prometheus: Path | None = Field(
        default=None,
        description="file that the run's counts are written to at its end, in the format of "
        "Prometheus, for node_exporter's textfile collector",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, description="the run is ended after so many seconds; never, left out"
    )
    trust: Annotated[Trust, BeforeValidator(_policy_of, json_schema_input_type=str | Trust)] = (
        Field(
            default_factory=policy,
            description="the file of the trust policy, from this file's folder, or its rules; "
            "LAKESCORE_TRUST when left out",
        )
    )


class Pyfunc(Strict):
    """What MLflow's loader and `predict` are given; the model says which there are."""

    params: dict[str, JsonValue] = Field(
        default_factory=dict, description="parameters of its signature, for `predict`"
    )
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        alias="model_config",  # the name that pydantic keeps for itself
        description="values of the configuration that it was logged with",
    )


NullRule = Literal["model", "fail", "null", "quarantine"]


class _Applying(_Job):
    """What a job that applies models says of their inputs and of how they are loaded."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="the table's column for each feature that has another name there",
    )
    nulls: dict[str, NullRule] = Field(
        default_factory=dict,
        description="for each feature, what becomes of a row that has a null there: model asks the "
        "model, fail scores nothing at all, null gives a null, quarantine sets the row aside "
        "(integers and booleans, which no model can be asked about); model when left out",
    )
    prediction: Literal["prediction", "proba"] = Field(
        default="prediction",
        description="what counts: what a model predicts, or a classifier's probabilities as "
        "p_<class>",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="what the score, or of two classes the second's probability, must reach for a "
        "decision: a column of predictions, and the label that a comparison counts",
    )
    pyfunc: Pyfunc = Field(
        default_factory=Pyfunc, description="params and model_config of the model"
    )
    env_manager: Literal["local", "virtualenv", "uv", "conda"] = Field(
        default="local",
        description="whose packages a model runs with: those here, or an environment that "
        "MLflow's spark_udf makes as it was logged",
    )

    @property
    def loading(self) -> dict[str, Any]:
        """How a version is loaded, as `loading.prepare` takes it."""
        return {
            "output": self.prediction,
            "params": self.pyfunc.params,
            "model_config": self.pyfunc.config,
            "env_manager": self.env_manager,
        }

    @property
    def contract(self) -> dict[str, Any]:
        """What a version takes and gives, as `signature.bind` takes it."""
        return {"columns": self.columns, "nulls": self.nulls, "threshold": self.threshold}


class Otherwise(Strict):
    """Which model scores the rows of segments without one of their own."""

    default: str = Field(min_length=1, description="its reference")


class Segments(Strict):
    """A model of its own for the rows of each value of a column."""

    by: str = Field(
        min_length=1, description="the input's column, of texts or integers, that names a segment"
    )
    name: str = Field(
        min_length=1,
        description="the reference of a segment's model, in which {COLUMN} stands for the segment "
        "in the model's name or alias, such as demand-{region}@champion",
    )
    missing: Annotated[
        Annotated[Literal["fail", "skip"], Tag("rule")] | Annotated[Otherwise, Tag("otherwise")],
        Discriminator(lambda value: "rule" if isinstance(value, str) else "otherwise"),
    ] = Field(
        default="fail",
        description="what becomes of the rows of a segment without such a model: fail scores "
        "nothing at all, skip leaves them out and counts them, {default: REFERENCE} scores them "
        "with another",
    )

    @field_validator("missing", mode="before")
    @classmethod
    def _one_of_three(cls, value: object) -> object:
        if isinstance(value, str) and value not in {"fail", "skip"}:
            raise ValueError(f"{value!r} is not fail, skip or {{default: {value}}}")
        return value

    @model_validator(mode="after")
    def _the_name_has_a_place_for_it(self) -> Self:
        name, question, query = self.name.partition("?")
        if self.placeholder not in name or self.placeholder in question + query:
            raise ValueError(
                f"name: give {self.placeholder} a place in the model's name or alias, as in "
                f"demand-{self.placeholder}@champion"
            )
        if set("{}") & set(self.name.replace(self.placeholder, "")):
            raise ValueError(f"name: {self.placeholder} alone may stand in braces")
        return self

    @property
    def called(self) -> str:
        """The name, however it is spelled."""
        return self.name.removeprefix("models:/")

    @property
    def placeholder(self) -> str:
        """What stands for the segment in `name`."""
        return f"{{{self.by}}}"


def _kind_of_model(value: object) -> str:
    return "segments" if isinstance(value, (dict, Segments)) else "reference"


_Model = Annotated[
    Annotated[str, Field(min_length=1), Tag("reference")] | Annotated[Segments, Tag("segments")],
    Discriminator(_kind_of_model),
]


def _check_families(job: _Applying, families: Sequence[Segments]) -> None:
    if families and job.engine == "spark_udf":
        raise ValueError("a model a segment needs engine: arrow, or auto")
    if families and job.env_manager != "local":
        raise ValueError("a model a segment needs env_manager: local")


class ScoreJob(_Applying):
    """Score slices of a Delta table with one pinned model version, or with one a segment."""

    model: _Model = Field(
        description="name/3, name@alias, name/latest, models:/..., or name?where=...&order_by=...; "
        "or for a model a segment: by, name, missing",
    )
    input: InputTable = Field(description="the table whose rows are scored")
    output: Table = Field(description="the table that the predictions are written to")
    id_columns: tuple[str, ...] = Field(
        min_length=1, description="columns that together name a row; they are written first"
    )
    passthrough: Literal["none", "keys", "all"] | tuple[str, ...] = Field(
        default="keys",
        description="which input columns are written beside the prediction: the keys, all, none, "
        "or a list of further ones",
    )
    write_mode: Literal["replace", "append", "merge"] = Field(
        default="replace",
        description="how a slice is published: in the place of what it held, beside it, or row by "
        "row in the place of those with the same keys",
    )
    write: Literal["direct", "spark"] = Field(
        default="direct",
        description="who writes the files of predictions for the arrow engine: workers themselves, "
        "where that is exactly what Spark writes, or always Spark",
    )
    on_duplicate_key: Literal["fail", "keep"] = Field(
        default="fail",
        description="what becomes of rows of a slice that share their id_columns: nothing is "
        "scored, or all are (and nobody looks)",
    )
    quarantine: Table | None = Field(
        default=None,
        description="the table of rows that could not be scored; beside the output, with "
        "_quarantine added to its name, when left out",
    )
    quarantine_columns: Literal["keys", "all"] = Field(
        default="keys", description="what the quarantine holds of a row's input"
    )
    max_errors: int = Field(
        default=0, ge=0, description="so many rows may fail, and the others are published"
    )
    max_error_fraction: float = Field(
        default=0.0, ge=0, le=1, description="or such a part of the rows; the larger counts"
    )
    slice_by: str | None = Field(
        default=None, description="input column that divides it into slices; one slice without"
    )
    slices: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="the slices to score: a value, a list, days 2013-12-01..2013-12-31, or due: "
        "those never scored, changed since, or scored by another version",
    )
    on_new_version: Literal["rescore", "forward_only"] = Field(
        default="rescore",
        description="for slices: due, whether slices that another version scored are due again",
    )
    commits: Literal["all", "slice"] = Field(
        default="all", description="one commit for all slices, or one a slice, the oldest first"
    )
    plan: bool = Field(
        default=False, description="write nothing, and say what would be done, with 100 rows scored"
    )

    @field_validator("passthrough", mode="before")
    @classmethod
    def _one_of_three_or_a_list(cls, value: object) -> object:
        if isinstance(value, str) and value not in {"none", "keys", "all"}:
            raise ValueError(f"{value!r} is not none, keys, all or a list such as [{value}]")
        return value

    @model_validator(mode="after")
    def _rows_aside_are_told_apart(self) -> Self:
        if self.quarantine_address == self.output.address:
            raise ValueError("quarantine: give another table than output")
        if self.quarantine_columns == "all" and self.on_duplicate_key == "keep":
            raise ValueError(
                "quarantine_columns: all finds rows by their keys, so give on_duplicate_key: fail"
            )
        return self

    @model_validator(mode="after")
    def _segments_need_the_arrow_engine(self) -> Self:
        _check_families(self, [self.model] if isinstance(self.model, Segments) else [])
        return self

    @model_validator(mode="after")
    def _rows_are_merged_by_keys(self) -> Self:
        if self.write_mode == "merge":
            if not self.writes_keys:
                raise ValueError(
                    "write_mode: merge finds rows by their keys, and passthrough: none writes "
                    "none; give passthrough: keys"
                )
            if self.on_duplicate_key == "keep":
                raise ValueError(
                    "write_mode: merge finds rows by their keys, so give on_duplicate_key: fail"
                )
        return self

    @model_validator(mode="after")
    def _slices_need_a_column(self) -> Self:
        if (self.slice_by is None) != (self.slices is None):
            raise ValueError("slice_by and slices go together: give both or neither")
        _ = self.slice_names
        return self

    @property
    def due(self) -> bool:
        """Whether the slices that need scoring are to be found, and none is named."""
        return self.slices == "due"

    @property
    def slice_names(self) -> tuple[str, ...]:
        """The slices asked for by name, in order; `all` where the whole table is one slice."""
        if self.slices is None:
            return ("all",)
        if self.due:
            return ()
        if not isinstance(self.slices, str):
            return tuple(dict.fromkeys(self.slices))
        first, dots, last = self.slices.partition("..")
        return _days(first, last) if dots else (self.slices,)

    @property
    def quarantine_address(self) -> str:
        """The address of the quarantine."""
        if self.quarantine is not None:
            return self.quarantine.address
        return self.output.address.rstrip("/") + "_quarantine"

    @property
    def writes_keys(self) -> bool:
        """Whether the output holds the keys, by which the quarantine's rows are found too."""
        return self.passthrough != "none"

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The input's columns that name a row, and its segment."""
        return self._with_segment(self.id_columns)

    def keep(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of *there*, the input's, that go through the workers, keys first."""
        return self._with_segment(self._asked_for(there))

    def _with_segment(self, names: Sequence[str]) -> tuple[str, ...]:
        by = self.segment_by
        return (*names, by) if by is not None and by not in names else tuple(names)

    def left_out(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return those of `keep` that the output does not hold."""
        keys = () if self.writes_keys else self.id_columns
        written = set(self._asked_for(there)) - set(keys)
        return tuple(name for name in self.keep(there) if name not in written)

    def _asked_for(self, there: Sequence[str]) -> tuple[str, ...]:
        if self.passthrough == "all":
            return tuple(dict.fromkeys([*self.id_columns, *there]))
        more = () if isinstance(self.passthrough, str) else self.passthrough
        return (*self.id_columns, *more)

    def allowed_errors(self, rows: int) -> int:
        """Return how many of so many *rows* may fail."""
        # 0.29 of 100 rows is 28.999999999999996 to a computer.
        return max(self.max_errors, int(self.max_error_fraction * rows + 1e-9))

    def quarantine_columns_of(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of *there*, the input's, that the quarantine holds."""
        return self.id_columns if self.quarantine_columns == "keys" else tuple(there)

    @property
    def segment_by(self) -> str | None:
        """The column that names a row's segment, where each has a model of its own."""
        return self.model.by if isinstance(self.model, Segments) else None

    @property
    def unique(self) -> tuple[str, ...]:
        """The input's columns that must name a row of its slice."""
        return self.id_columns if self.on_duplicate_key == "fail" else ()

    @property
    def contract(self) -> dict[str, Any]:
        """What the version takes and gives, as `signature.bind` takes it."""
        read = [each for each in (self.slice_by, self.segment_by) if each]
        return {"read": tuple(read), **super().contract}

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the rows that are written, besides the model and the input."""
        names = {
            "id_columns",
            "passthrough",
            "write_mode",
            "slice_by",
            "prediction",
            "threshold",
            "columns",
            "nulls",
        }
        return self.model_dump(mode="json", include={*names, "pyfunc"}, by_alias=True)


def _days(first: str, last: str) -> tuple[str, ...]:
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise ValueError(
            f"{first}..{last} is not a range of days like 2013-12-01..2013-12-31"
        ) from None
    if end < start:
        raise ValueError(f"{first}..{last} ends before it begins")
    if (days := (end - start).days + 1) > _MOST_DAYS:
        raise ValueError(
            f"{first}..{last} would be {days} slices, and a range may be of {_MOST_DAYS} days at "
            "the most; give a shorter one, or due"
        )
    return tuple(str(start + timedelta(days=n)) for n in range(days))


METRICS = (
    "rmse", "mae", "mape", "r2", "max_error", "median_absolute_error", "absolute_error_p90",
    "absolute_error_p95", "mean_pinball_loss_0.1", "mean_pinball_loss_0.9",
    "accuracy", "balanced_accuracy", "precision", "recall", "f1", "precision_macro",
    "recall_macro", "f1_macro", "precision_weighted", "recall_weighted", "f1_weighted",
    "log_loss", "brier_score_loss", "calibration_error", "roc_auc", "roc_auc_ovr",
    "roc_auc_ovr_weighted", "average_precision",
)  # fmt: skip
"""Those of `lakescore.comparing` that can rank, for whoever checks a file without Spark."""


class VersionQuery(Strict):
    """Versions of one registered model, by a filter."""

    name: str = Field(min_length=1, description="the registered model")
    where: str | None = Field(
        default=None, description="a filter, such as metrics.rmse < 20 and tags.team = 'ops'"
    )
    order_by: str | None = Field(
        default=None, description="COLUMN [asc|desc]; newest first without"
    )
    limit: int | None = Field(default=None, ge=1, description="how many at the most")


class Slices(Strict):
    """Parts of the holdout that get metrics of their own."""

    by: tuple[str, ...] = Field(
        min_length=1, description="columns; each value of each is a slice (at most 200 a column)"
    )
    small: int = Field(default=100, ge=1, description="slices with fewer rows are marked as small")


class Gate(Strict):
    """What one metric must reach, in the words of MLflow's MetricThreshold."""

    greater_is_better: bool = Field(description="the metric's direction")
    threshold: float | None = Field(
        default=None, description="what the metric itself must reach, by the bound of its interval"
    )
    min_absolute_change: float | None = Field(
        default=None, gt=0, description="by how much it must be better than the baseline's"
    )
    min_relative_change: float | None = Field(
        default=None, gt=0, le=1, description="the same, as a share of the baseline's value"
    )


class Gates(Strict):
    """What the candidate must reach, and what is done then."""

    mode: Literal["disabled", "dry_run", "enforce"] = Field(
        default="enforce",
        description="enforce: exit 6 where one is not met, else on_pass; dry_run: only say so",
    )
    candidate: str | None = Field(
        default=None,
        description="reference of the version that is held against them, or the name of a model a "
        "segment; the best but the baseline when left out",
    )
    metrics: dict[str, Gate] = Field(default={}, description="what each metric must reach")
    signature: bool = Field(
        default=True, description="whether its signature must be compatible with the baseline's"
    )
    on_pass: Annotated[str, Field(pattern=r"^(promote|set alias [\w-]+)$")] | None = Field(
        default=None, description="promote (to champion), or set alias NAME"
    )


class Disagreements(Table):
    """A table of the rows on which versions disagree most."""

    rows: int = Field(default=100, ge=1, le=100_000, description="how many rows")


def _kind_of_versions(value: object) -> str:
    return "query" if isinstance(value, (dict, VersionQuery)) else "list"


class CompareJob(_Applying):
    """Score several versions on one holdout, all rows, and rank them."""

    versions: Annotated[
        Annotated[tuple[_Model, ...], Field(min_length=1), Tag("list")]
        | Annotated[VersionQuery, Tag("query")],
        Discriminator(_kind_of_versions),
    ] = Field(
        description="references of the versions to compare, with {by, name, missing} for a model a "
        "segment; or a query: name, where, ..."
    )
    baseline: str | None = Field(
        default=None,
        description="reference of the version that the others are held against, or the name of a "
        "model a segment; when left out the first if that is one, the model's champion, or the "
        "first version",
    )
    holdout: InputTable = Field(description="the table of labelled rows")
    label: str = Field(min_length=1, description="the holdout's column with the true value")
    where: str | None = Field(
        default=None, description="a filter on the holdout's rows, such as month >= 10"
    )
    weight: str | None = Field(default=None, description="the holdout's column of row weights")
    id_columns: tuple[str, ...] = Field(
        default=(),
        description="columns that together name a row: they seed the bootstrap, and stand in the "
        "tables of rows",
    )
    slices: Slices | None = Field(default=None, description="columns to slice the metrics by")
    problem_type: Literal["regression", "binary", "multiclass"] | None = Field(
        default=None, description="inferred from the signature and the label when left out"
    )
    positive_class: str | None = Field(
        default=None, description="the class that binary metrics are of; the model's second without"
    )
    rank_by: str | None = Field(
        default=None,
        min_length=1,
        description="the metric that ranks; rmse, log_loss or accuracy when left out",
    )
    custom_metrics: dict[str, Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]] = Field(
        default={}, description="further metrics: name: package.module:function"
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the intervals")
    bootstraps: int = Field(default=400, ge=100, le=5000, description="how many are drawn")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the bootstraps")
    output: Table = Field(description="the table that the metrics are written to")
    disagreements: Disagreements | None = Field(
        default=None, description="the table for the rows that versions disagree on most"
    )
    quarantine: Table | None = Field(
        default=None, description="the table for the rows that a version could not score"
    )
    report: str = Field(
        default="reports",
        min_length=1,
        description="the folder for the report; a relative path lies under LAKESCORE_HOME",
    )
    gates: Gates | None = Field(
        default=None, description="what a candidate must reach, and what is done then"
    )

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        known = [*METRICS, *self.custom_metrics]
        asked = {"rank_by": [self.rank_by] if self.rank_by else []}
        asked["gates.metrics"] = list(self.gates.metrics) if self.gates else []
        for key, names in asked.items():
            for name in names:
                if name not in known and name.partition("/")[0] not in METRICS:
                    raise ValueError(
                        f"{key}: there is no metric {name!r} that ranks{nearest(name, known)}; "
                        f"there are: {listed(known, most=40)}"
                    )
        return self

    @model_validator(mode="after")
    def _tables_of_rows_need_keys(self) -> Self:
        for name in ("disagreements", "quarantine"):
            if getattr(self, name) is not None and not self.id_columns:
                raise ValueError(f"{name} needs id_columns, which name its rows")
            if getattr(self, name) is not None and (taken := _OF_ROWS & set(self.id_columns)):
                raise ValueError(
                    f"id_columns: the table {name} has columns of its own that are called "
                    f"{listed(sorted(taken))}"
                )
        return self

    @model_validator(mode="after")
    def _families_are_told_apart(self) -> Self:
        _check_families(self, self.families)
        for name in {family.called for family in self.families}:
            alike = {(each.by, str(each.missing)) for each in self.families if each.called == name}
            if len(alike) > 1:
                raise ValueError(f"versions: {name} stands twice, with another by or missing")
        if self.families and self.gates and self.gates.on_pass is not None:
            raise ValueError(
                "gates.on_pass: one alias is moved, and versions has a model a segment; leave it "
                "out"
            )
        return self

    @property
    def families(self) -> tuple[Segments, ...]:
        """Those of `versions` that are a model a segment."""
        listed_ = () if isinstance(self.versions, VersionQuery) else self.versions
        return tuple(each for each in listed_ if isinstance(each, Segments))

    @property
    def entering(self) -> dict[str, Any]:
        """Which versions take part, as `comparing.enter` takes it."""
        query = self.versions if isinstance(self.versions, VersionQuery) else None
        return {
            "references": () if query else self.versions,
            "query": query.model_dump() if query else None,
            "baseline": self.baseline,
            "candidate": self.gates.candidate if self.gates else None,
            "trust": self.trust,
        }

    @property
    def measuring(self) -> dict[str, Any]:
        """How they are compared, as `comparing.compare` takes it."""
        same = {"label", "weight", "problem_type", "rank_by", "positive_class", "custom_metrics",
                "confidence", "bootstraps", "seed"}  # fmt: skip
        return {
            **{name: getattr(self, name) for name in sorted(same)},
            "keys": self.id_columns,
            "slices": self.slices.by if self.slices else (),
            "small": self.slices.small if self.slices else 1,
            "most": self.disagreements.rows if self.disagreements else 1,
        }

    @property
    def gating(self) -> dict[str, Any]:
        """What the candidate must reach, as `comparing.evaluate_gates` takes it."""
        gates = self.gates or Gates(mode="disabled")
        thresholds = {name: gate.model_dump() for name, gate in gates.metrics.items()}
        return {
            "thresholds": thresholds, "mode": gates.mode, "signature": gates.signature,
            "on_pass": gates.on_pass,
        }  # fmt: skip

    @property
    def row_settings(self) -> dict[str, Any]:
        """What decides which rows count, and for how much."""
        return {name: getattr(self, name) for name in ("label", "where", "weight")}

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the results."""
        outside = {"versions", "holdout", "output", "engine", "scan", "experiment", "run_id",
                   "receipt", "prometheus", "timeout_seconds", "trust", "disagreements",
                   "quarantine", "report", "runner"}  # fmt: skip
        return self.model_dump(mode="json", exclude=outside)

    @property
    def contract(self) -> dict[str, Any]:
        """What versions take and give, as `signature.bind_all` takes it."""
        return {"read": (self.label, *self.keep), **super().contract}

    @property
    def keep(self) -> tuple[str, ...]:
        """The holdout's columns that stand beside the predictions."""
        weight = (self.weight,) if self.weight else ()
        slices = self.slices.by if self.slices else ()
        segments = [family.by for family in self.families]
        return tuple(dict.fromkeys([*self.id_columns, *weight, *slices, *segments]))

    @property
    def addresses(self) -> dict[str, str]:
        """The tables that are written, by what they hold; the metrics, the ranking, last."""
        found = {"disagreements": self.disagreements, "quarantine": self.quarantine,
                 "metrics": self.output}  # fmt: skip
        return {name: table.address for name, table in found.items() if table is not None}

    def pinned(self, receipt: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job's file that gives the results of *receipt* again, as plain values.

        Of a model a segment the names are as they were, and mean what they mean then.
        """
        families = {each.called: each.model_dump(mode="json") for each in self.families}
        outside = {"run_id", "receipt", "prometheus", "trust", "timeout_seconds"}
        given = self.model_dump(mode="json", exclude=outside, exclude_defaults=True, by_alias=True)
        return {
            **given,
            "versions": [families.get(each["uri"], each["uri"]) for each in receipt["ranking"]],
            "baseline": receipt["baseline"],
            "holdout": {**given["holdout"], "version": receipt["holdout"]["version"]},
        }

    @property
    def pages(self) -> Path:
        """The absolute folder for the report."""
        return home() / Path(self.report).expanduser()


class ReplayJob(_Job):
    """Make the predictions of a run once more, and prove that they are the same."""

    output: Table = Field(description="the table of predictions that the run wrote")
    run: _RunId = Field(description="the run: scoring_run_id in its rows")
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="by how much of the larger one two numbers may differ and still be the same",
    )


JOBS: dict[str, type[ScoreJob | CompareJob | ReplayJob]] = {
    "score": ScoreJob,
    "compare": CompareJob,
    "replay": ReplayJob,
}

J = TypeVar("J", bound=BaseModel)


_CASES: dict[str, type[Strict] | None] = {
    "list": None,
    "otherwise": Otherwise,
    "query": VersionQuery,
    "reference": None,
    "rule": None,
    "segments": Segments,
}
"""The cases of unions, by their tags, with the keys that they have."""


def kind_of(path: Path, overrides: Sequence[str] = ()) -> Literal["score", "compare"]:
    """Return the job that a file is for: of the two, only a compare job's has `versions`.

    Raises:
        ConfigError: there is no such file, or none with keys and values.
    """
    values = read(path)
    for override in overrides:
        _apply(values, override)
    return "compare" if "versions" in values else "score"


def load(
    kind: type[J],
    path: Path,
    overrides: Sequence[str] = (),
    changes: Mapping[str, object] = MappingProxyType({}),
) -> J:
    """Read the job's file at *path*, with *changes* and then *overrides* on top.

    Args:
        kind: the type of the job.
        path: its file.
        overrides: `key=value` or `input.version=3`, as on the command line.
        changes: keys such as `input.version`, and their values.

    Raises:
        ConfigError: in one line, the file, the key, what is wrong, and the nearest valid key.
    """
    values = read(path)
    if isinstance(values.get("trust"), str):
        values["trust"] = str(path.parent / values["trust"])
    for key, value in changes.items():
        _set(values, key, value)
    for override in overrides:
        _apply(values, override)
    return validate(kind, path, values)


def validate(kind: type[J], path: Path, values: Mapping[str, object]) -> J:
    """Return *values*, which the file at *path* holds, as what they describe.

    Raises:
        ConfigError: as `load`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(kind, error)}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the keys and values of a file of YAML, whose scalars are texts.

    Raises:
        ConfigError: there is no such file, or none with keys and values.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"{path} is larger than {_LARGEST_FILE} bytes: not a job's file")
        values = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = [str(each) for each in sorted(path.parent.glob("*.yaml"))]
        raise ConfigError(
            f"there is no file {path}{nearest(str(path), near)}; there are: {listed(near)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys and values, as conf/score.yaml does")
    return values


class _Texts(Spelt):
    """Reads scalars as the text that stands there: the job's type says what they are.

    YAML's own guesses would turn a slice 010 into 8 and 12:30 into 750. A key that stands twice is
    an error, where YAML lets the last one win.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


_NULL = "tag:yaml.org,2002:null"
_Texts.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Texts.add_constructor(_NULL, lambda _loader, _node: None)


def _parsed(text: str) -> Any:  # noqa: ANN401 - whatever the text holds
    try:
        return yaml.load(text, _Texts)  # noqa: S506 - makes nothing but texts, lists and mappings
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def is_override(word: str) -> bool:
    """Tell whether a *word* of the command line overrides a key."""
    return re.fullmatch(rf"{_KEY}=.*", word, re.DOTALL) is not None


def _apply(values: dict[str, Any], override: str) -> None:
    if not is_override(override):
        raise ConfigError(f"{override!r} is not an override; write key=value or input.version=3")
    key, _, text = override.partition("=")
    try:
        value = _parsed(text) if text[:1] in _FLOW or text in _EMPTY else text
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the override {override!r}: {error}") from None
    _set(values, key, value)


def _set(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.get(parent)
        values[parent] = dict(inner) if isinstance(inner, dict) else {}
        values = values[parent]
    if parents and last in _OTHER_ADDRESS:
        values.pop(_OTHER_ADDRESS[last], None)
    values[last] = value


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    # A mistyped key is also a missing one: the first says more.
    problems = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    problem = problems[0]
    whole = [str(part) for part in problem["loc"]]
    path = [part for n, part in enumerate(whole) if n == 0 or not _is_case(whole[:n], kind, part)]
    *parents, last = path or [""]
    more = f" (and {error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        valid = _keys(kind, whole[:-1])
        within = f" in {'.'.join(parents)}" if parents else ""
        known = f"{nearest(last, valid)}; valid keys: {listed(valid, most=20)}"
        return f"unknown key {last!r}{within}{known}{more}"
    where = ".".join(path)
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where + ': ' if where else ''}{message}{more}"


def _is_case(before: Sequence[str], kind: type[BaseModel], part: str) -> bool:
    """Tell whether a *part* of an error's path names a case of a union, and is no key of a file."""
    in_list = before[0] == "versions" and before[-1].isdigit()
    named = before[-1] in _UNIONS and (len(before) == 1 or before[0] in {"model", "versions"})
    return (named or in_list) and before[0] in kind.model_fields and part in _CASES


def _keys(kind: type[BaseModel], parents: Sequence[str]) -> list[str]:
    job = kind
    for n, parent in enumerate(parents):
        if n and _is_case(parents[:n], job, parent):
            kind = _CASES[parent] or kind
        elif parent in kind.model_fields:  # else it is a key of a mapping, or a place in a list
            kind = _inner(kind.model_fields[parent].annotation) or kind
    return [field.alias or name for name, field in kind.model_fields.items()]


def _inner(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any type
    """Return the model in an annotation: itself, or the last of those that it is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_inner(each) for each in get_args(annotation)]
    return next((each for each in reversed(found) if each), None)
