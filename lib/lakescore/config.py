"""Define each kind of job as a frozen type, whose fields are the keys of its YAML file."""

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
from lakescore.errors import ConfigError
from lakescore.home import home
from lakescore.metrics import RANKING
from lakescore.options import (
    BindOptions,
    CompareOptions,
    EngineName,
    EnvManager,
    GateMode,
    GateOptions,
    LoadOptions,
    NullRule,
    OutputName,
    ProblemType,
    RunnerName,
    ScanName,
    Threshold,
    family_name,
)
from lakescore.trust import Trust
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LARGEST_FILE = 1_000_000
_MOST_DAYS = 50_000
"""The longest range of slices: 136 years. A longer range is a mistake, or a case for `due`."""
_EMPTY = ("", "~", "null")
_FLOW = ("[", "{")
"""The first characters of YAML's lists and mappings; any other override is a plain text."""
_ROW_TABLE_COLUMNS = {
    *("comparing_run_id", "holdout_table", "holdout_version", "holdout_digest", "compared_at"),
    *("disagreement", "model_uri", "error_type", "error"),
}
"""The columns of the tables of rows that a comparison writes, besides the keys."""
_UNION_KEYS = ("missing", "model", "versions")
"""The keys after which an error of pydantic names the case of a union, which no file has."""
_OTHER_ADDRESS = {"path": "table", "table": "path"}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_KEY = r"\w+(?:\.\w+)*"
_NAME = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,2}$"


class Strict(BaseModel):
    """The content of a file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(Strict):
    """A Delta table, by its path or by its name in the catalog."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="folder or URI of the table; a relative path is below LAKESCORE_HOME",
    )
    table: str | None = Field(
        default=None, pattern=_NAME, description="name in the catalog: [[catalog.]schema.]table"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_text(cls, value: object) -> object:
        if isinstance(value, str):
            if value in {"prediction", "proba"}:
                raise ValueError(
                    f"{value!r} is not a table; the key prediction chooses what is written: "
                    f"give prediction: {value}"
                )
            raise ValueError(  # noqa: TRY004 - a value in a file
                f"give {{path: {value}}}, or {{table: name}} for a table of a catalog"
            )
        return value

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("give either path or table")
        return self

    @property
    def address(self) -> str:
        """The table's name, or its absolute path or URI. Only a path or URI contains a `/`."""
        if self.table is not None:
            return self.table
        path = str(self.path)
        return path if _URI.match(path) else str(home() / Path(path).expanduser())


class InputTable(Table):
    """A Delta table at one version."""

    version: int | None = Field(
        default=None, ge=0, description="version of the table to read; default: the latest"
    )


_RunId = Annotated[str, Field(pattern=r"^[\w.:+-]{1,200}$")]


class TrustFile(Strict):
    """The file of a trust policy."""

    trust: Trust = Field(description="which model versions may be loaded")


def policy(path: Path | None = None) -> Trust:
    """Read the trust policy at *path* or at `LAKESCORE_TRUST`; without both, return the defaults.

    Raises:
        ConfigError: as `load`.
    """
    path = path or (Path(file) if (file := os.environ.get("LAKESCORE_TRUST")) else None)
    return load(TrustFile, path).trust if path else Trust()


def _read_policy(value: object) -> object:
    return policy(Path(value)) if isinstance(value, str) else value


class _Job(Strict):
    engine: EngineName = Field(
        default="auto",
        description="how to apply models: spark_udf (MLflow's own function), arrow (faster), or "
        "auto, which uses arrow if a probe with real rows shows equal predictions",
    )
    scan: ScanName = Field(
        default="direct",
        description="who reads the table for the arrow engine: direct (the workers, if they read "
        "exactly what Spark reads), or spark (always Spark)",
    )
    runner: RunnerName = Field(
        default="auto",
        description="what runs the tasks: spark, local (processes of this machine, without Spark), "
        "or auto, which uses these processes if PLACE is local and the rows take less time than "
        "the start of Spark",
    )
    experiment: str = Field(
        default="lakescore", min_length=1, description="MLflow experiment for the run"
    )
    run_id: _RunId | None = Field(
        default=None, description="id of the run; default: derived from its inputs"
    )
    receipt: Path | None = Field(
        default=None, description="file for the receipt, which is also the last line of the output"
    )
    prometheus: Path | None = Field(
        default=None,
        description="file for the counts of the run, written at its end in the format of "
        "Prometheus, for node_exporter's textfile collector",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, description="stop the run after this many seconds; default: never"
    )
    trust: Annotated[Trust, BeforeValidator(_read_policy, json_schema_input_type=str | Trust)] = (
        Field(
            default_factory=policy,
            description="file of the trust policy, relative to this file's folder, or its rules; "
            "default: the file that LAKESCORE_TRUST names",
        )
    )


class Pyfunc(Strict):
    """The arguments for MLflow's loader and for `predict`; the model declares which it has."""

    params: dict[str, JsonValue] = Field(
        default_factory=dict, description="parameters of the model's signature, for `predict`"
    )
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        alias="model_config",  # pydantic reserves this name
        description="values that override the configuration that the model was logged with",
    )


class _Applying(_Job):
    """The keys of a job that applies models: their inputs, and how they are loaded."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="for each feature that has another name in the table, its column there",
    )
    nulls: dict[str, NullRule] = Field(
        default_factory=dict,
        description="for each feature, how to treat a row that has a null there: model (pass it to "
        "the model), fail (score no rows at all), null (publish a null), or quarantine (put the "
        "row into the quarantine); default: model, but quarantine for integers and booleans, whose "
        "nulls cannot be passed to a model",
    )
    prediction: OutputName = Field(
        default="prediction",
        description="what to write or compare: prediction (the model's own), or proba (a "
        "classifier's probabilities, as p_<class>)",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="minimum score for a decision (of two classes: minimum probability of the "
        "second); predictions get a column for it, and a comparison counts it as the label",
    )
    pyfunc: Pyfunc = Field(
        default_factory=Pyfunc, description="params and model_config of the model"
    )
    env_manager: EnvManager = Field(
        default="local",
        description="packages that a model runs with: local (the packages installed here), or "
        "virtualenv, uv or conda (MLflow's spark_udf creates the environment that the model was "
        "logged with)",
    )

    @property
    def loading(self) -> LoadOptions:
        """How a version is loaded and called."""
        return LoadOptions(
            output=self.prediction,
            params=self.pyfunc.params,
            model_config=self.pyfunc.config,
            env_manager=self.env_manager,
        )

    def _bind_options(self, read: Sequence[str]) -> BindOptions:
        return BindOptions(
            read=tuple(read), columns=self.columns, nulls=self.nulls, threshold=self.threshold
        )


class Otherwise(Strict):
    """The model that scores the rows of segments without their own model."""

    default: str = Field(min_length=1, description="reference of that model")


class Segments(Strict):
    """A model per segment: each value of a column has its own model."""

    by: str = Field(
        min_length=1, description="the input's column that names the segment: a text or an integer"
    )
    name: str = Field(
        min_length=1,
        description="reference of a segment's model, with {COLUMN} as the place of the segment in "
        "the model's name or alias, such as demand-{region}@champion",
    )
    missing: Annotated[
        Annotated[Literal["fail", "skip"], Tag("rule")] | Annotated[Otherwise, Tag("otherwise")],
        Discriminator(lambda value: "rule" if isinstance(value, str) else "otherwise"),
    ] = Field(
        default="fail",
        description="how to treat the rows of a segment without such a model: fail (score no rows "
        "at all), skip (leave them out, and count them), or {default: REFERENCE} (score them with "
        "another model)",
    )

    @field_validator("missing", mode="before")
    @classmethod
    def _check_missing(cls, value: object) -> object:
        if isinstance(value, str) and value not in {"fail", "skip"}:
            raise ValueError(f"{value!r} is not fail, skip or {{default: {value}}}")
        return value

    @model_validator(mode="after")
    def _check_placeholder(self) -> Self:
        name, question, query = self.name.partition("?")
        if self.placeholder not in name or self.placeholder in question + query:
            raise ValueError(
                f"name: put {self.placeholder} into the model's name or alias, as in "
                f"demand-{self.placeholder}@champion"
            )
        if set("{}") & set(self.name.replace(self.placeholder, "")):
            raise ValueError(f"name: only {self.placeholder} can stand in braces")
        return self

    @property
    def called(self) -> str:
        """The name without the prefix `models:/`, so that both spellings are the same."""
        return family_name(self.name)

    @property
    def placeholder(self) -> str:
        """The text that stands for the segment in `name`."""
        return f"{{{self.by}}}"


def _kind_of_model(value: object) -> str:
    return "segments" if isinstance(value, (dict, Segments)) else "reference"


_Model = Annotated[
    Annotated[str, Field(min_length=1), Tag("reference")] | Annotated[Segments, Tag("segments")],
    Discriminator(_kind_of_model),
]


def _check_families(job: _Applying, families: Sequence[Segments]) -> None:
    if families and job.engine == "spark_udf":
        raise ValueError("a model per segment needs engine: arrow or auto")
    if families and job.env_manager != "local":
        raise ValueError("a model per segment needs env_manager: local")


class ScoreJob(_Applying):
    """Score slices of a Delta table with one pinned model version, or one version per segment."""

    model: _Model = Field(
        description="the model version: name/3, name@alias, name/latest, models:/..., or "
        "name?where=...&order_by=...; or for a model per segment the keys by, name and missing",
    )
    input: InputTable = Field(description="table of the rows to score")
    output: Table = Field(description="table for the predictions")
    id_columns: tuple[str, ...] = Field(
        min_length=1, description="columns that together identify a row; they are written first"
    )
    passthrough: Literal["none", "keys", "all"] | tuple[str, ...] = Field(
        default="keys",
        description="input columns to write beside the prediction: keys (the id_columns), all, "
        "none, or a list of columns to write beside the keys",
    )
    write_mode: Literal["replace", "append", "merge"] = Field(
        default="replace",
        description="how to publish a slice: replace (remove its earlier rows), append (add to "
        "them), or merge (replace the rows with the same keys, and add the others)",
    )
    write: Literal["direct", "spark"] = Field(
        default="direct",
        description="who writes the files of predictions for the arrow engine: direct (the "
        "workers, if they write exactly what Spark writes), or spark (always Spark)",
    )
    on_duplicate_key: Literal["fail", "keep"] = Field(
        default="fail",
        description="how to treat rows of a slice that share their id_columns: fail (score no rows "
        "at all), or keep (score all of them, and do not look for such rows)",
    )
    quarantine: Table | None = Field(
        default=None,
        description="table for the rows that could not be scored; default: the output's path or "
        "name with _quarantine at its end",
    )
    quarantine_columns: Literal["keys", "all"] = Field(
        default="keys",
        description="input columns to write to the quarantine: keys (the id_columns), or all",
    )
    max_errors: int = Field(
        default=0,
        ge=0,
        description="maximum number of rows that may fail; the other rows are published",
    )
    max_error_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="the same as a fraction of the rows; the larger of the two limits counts",
    )
    slice_by: str | None = Field(
        default=None,
        description="input column that divides the table into slices; default: one slice",
    )
    slices: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="slices to score: a value, a list, a range of days such as "
        "2013-12-01..2013-12-31, or due: slices that were never scored, have changed since, or "
        "were scored by another version",
    )
    on_new_version: Literal["rescore", "forward_only"] = Field(
        default="rescore",
        description="with slices: due, what to do with slices that another version scored: "
        "rescore them, or forward_only (leave them as they are)",
    )
    commits: Literal["all", "slice"] = Field(
        default="all",
        description="all (one commit for all slices), or slice (one commit per slice, the oldest "
        "first)",
    )
    plan: bool = Field(
        default=False,
        description="show what the run would do, and score 100 rows; write nothing",
    )

    @field_validator("passthrough", mode="before")
    @classmethod
    def _check_passthrough(cls, value: object) -> object:
        if isinstance(value, str) and value not in {"none", "keys", "all"}:
            raise ValueError(f"{value!r} is not none, keys, all or a list such as [{value}]")
        return value

    @model_validator(mode="after")
    def _check_quarantine(self) -> Self:
        if self.quarantine_address == self.output.address:
            raise ValueError("quarantine: give a table other than output")
        if self.quarantine_columns == "all" and self.on_duplicate_key == "keep":
            raise ValueError(
                "quarantine_columns: all finds rows by their keys, so give on_duplicate_key: fail"
            )
        return self

    @model_validator(mode="after")
    def _check_segments(self) -> Self:
        _check_families(self, [self.model] if isinstance(self.model, Segments) else [])
        return self

    @model_validator(mode="after")
    def _check_merge(self) -> Self:
        if self.write_mode == "merge":
            if not self.writes_keys:
                raise ValueError(
                    "write_mode: merge finds rows by their keys, but passthrough: none writes no "
                    "keys; give passthrough: keys"
                )
            if self.on_duplicate_key == "keep":
                raise ValueError(
                    "write_mode: merge finds rows by their keys, so give on_duplicate_key: fail"
                )
        return self

    @model_validator(mode="after")
    def _check_slices(self) -> Self:
        if (self.slice_by is None) != (self.slices is None):
            raise ValueError("slice_by and slices go together: give both or neither")
        _ = self.slice_names
        return self

    @property
    def due(self) -> bool:
        """Whether the run itself finds the slices to score."""
        return self.slices == "due"

    @property
    def slice_names(self) -> tuple[str, ...]:
        """The names of the requested slices, in order; `all` if the whole table is one slice."""
        if self.slices is None:
            return ("all",)
        if self.due:
            return ()
        if not isinstance(self.slices, str):
            return tuple(dict.fromkeys(self.slices))
        first, dots, last = self.slices.partition("..")
        return _list_days(first, last) if dots else (self.slices,)

    @property
    def quarantine_address(self) -> str:
        """The address of the quarantine."""
        if self.quarantine is not None:
            return self.quarantine.address
        return self.output.address.rstrip("/") + "_quarantine"

    @property
    def writes_keys(self) -> bool:
        """Whether the output has the keys, which also find a row's input in the quarantine."""
        return self.passthrough != "none"

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The input's columns that identify a row and its segment."""
        return self._add_segment(self.id_columns)

    def keep(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return those of the input's *columns* that go through the workers, keys first."""
        return self._add_segment(self._written_columns(columns))

    def _add_segment(self, names: Sequence[str]) -> tuple[str, ...]:
        by = self.segment_by
        return (*names, by) if by is not None and by not in names else tuple(names)

    def left_out(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of `keep` that the output does not have."""
        keys = () if self.writes_keys else self.id_columns
        written = set(self._written_columns(columns)) - set(keys)
        return tuple(name for name in self.keep(columns) if name not in written)

    def _written_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        if self.passthrough == "all":
            return tuple(dict.fromkeys([*self.id_columns, *columns]))
        more = () if isinstance(self.passthrough, str) else self.passthrough
        return (*self.id_columns, *more)

    def allowed_errors(self, rows: int) -> int:
        """Return how many of this number of *rows* may fail."""
        # In floating point, 0.29 of 100 rows is 28.999999999999996.
        return max(self.max_errors, int(self.max_error_fraction * rows + 1e-9))

    def quarantine_columns_of(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return those of the input's *columns* that the quarantine has."""
        return self.id_columns if self.quarantine_columns == "keys" else tuple(columns)

    @property
    def segment_by(self) -> str | None:
        """The column that names a row's segment; None without a model per segment."""
        return self.model.by if isinstance(self.model, Segments) else None

    @property
    def unique(self) -> tuple[str, ...]:
        """The input's columns that must identify a row within its slice; empty without a check."""
        return self.id_columns if self.on_duplicate_key == "fail" else ()

    @property
    def binding(self) -> BindOptions:
        """How the input's columns become features."""
        return self._bind_options([name for name in (self.slice_by, self.segment_by) if name])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the written rows, besides the model and the input."""
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


def _list_days(first: str, last: str) -> tuple[str, ...]:
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
            f"{first}..{last} would be {days} slices, but a range can have at most {_MOST_DAYS} "
            "days; give a shorter range, or due"
        )
    return tuple(str(start + timedelta(days=n)) for n in range(days))


class VersionQuery(Strict):
    """The versions of one registered model that match a filter."""

    name: str = Field(min_length=1, description="the registered model")
    where: str | None = Field(
        default=None, description="a filter, such as metrics.rmse < 20 and tags.team = 'ops'"
    )
    order_by: str | None = Field(
        default=None, description="COLUMN [asc|desc]; default: newest first"
    )
    limit: int | None = Field(default=None, ge=1, description="maximum number of versions")


class Slices(Strict):
    """The parts of the holdout that get their own metrics."""

    by: tuple[str, ...] = Field(
        min_length=1,
        description="columns; each value of a column is a slice (at most 200 per column)",
    )
    small: int = Field(default=100, ge=1, description="slices with fewer rows are marked as small")


class Gate(Strict):
    """The conditions for one metric, with the fields of MLflow's MetricThreshold."""

    greater_is_better: bool = Field(description="whether a larger value of the metric is better")
    threshold: float | None = Field(
        default=None,
        description="value that the metric must reach; the bound of its confidence interval counts",
    )
    min_absolute_change: float | None = Field(
        default=None,
        gt=0,
        description="by how much the metric must be better than the baseline's",
    )
    min_relative_change: float | None = Field(
        default=None, gt=0, le=1, description="the same, as a fraction of the baseline's value"
    )


class Gates(Strict):
    """The conditions for the candidate, and the action if it meets them."""

    mode: GateMode = Field(
        default="enforce",
        description="enforce (exit with code 6 if a gate is not met, otherwise do on_pass), "
        "dry_run (only report the result), or disabled (evaluate no gates)",
    )
    candidate: str | None = Field(
        default=None,
        description="reference of the version to check against the gates, or the name of a model "
        "per segment; default: the best version other than the baseline",
    )
    metrics: dict[str, Gate] = Field(default={}, description="the conditions for each metric")
    signature: bool = Field(
        default=True,
        description="whether the candidate's signature must be compatible with the baseline's",
    )
    on_pass: Annotated[str, Field(pattern=r"^(promote|set alias [\w-]+)$")] | None = Field(
        default=None,
        description="what to do with the candidate: promote (to champion), or set alias NAME",
    )


class Disagreements(Table):
    """The table of the rows on which versions disagree most."""

    rows: int = Field(default=100, ge=1, le=100_000, description="number of rows")


def _kind_of_versions(value: object) -> str:
    return "query" if isinstance(value, (dict, VersionQuery)) else "list"


class CompareJob(_Applying):
    """Score several versions on all rows of one holdout, and rank them."""

    versions: Annotated[
        Annotated[tuple[_Model, ...], Field(min_length=1), Tag("list")]
        | Annotated[VersionQuery, Tag("query")],
        Discriminator(_kind_of_versions),
    ] = Field(
        description="the versions to compare: a list of references, or of {by, name, missing} for "
        "a model per segment; or a query with the keys name, where, order_by and limit"
    )
    baseline: str | None = Field(
        default=None,
        description="reference of the version to compare the others with, or the name of a model "
        "per segment; default: the first entry if it is a model per segment, otherwise the model's "
        "champion, otherwise the first version",
    )
    holdout: InputTable = Field(description="table of labelled rows")
    label: str = Field(min_length=1, description="the holdout's column of the true values")
    where: str | None = Field(
        default=None, description="filter on the holdout's rows, such as month >= 10"
    )
    weight: str | None = Field(default=None, description="the holdout's column of row weights")
    id_columns: tuple[str, ...] = Field(
        default=(),
        description="columns that together identify a row; they seed the bootstrap, and identify "
        "the rows of the tables disagreements and quarantine",
    )
    slices: Slices | None = Field(
        default=None, description="the slices of the holdout that get their own metrics"
    )
    problem_type: ProblemType | None = Field(
        default=None,
        description="the kind of prediction; default: inferred from the signature and the label",
    )
    positive_class: str | None = Field(
        default=None,
        description="the class that binary metrics are about; default: the model's second class",
    )
    rank_by: str | None = Field(
        default=None,
        min_length=1,
        description="metric that ranks the versions; default: rmse, log_loss or accuracy",
    )
    custom_metrics: dict[str, Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]] = Field(
        default={}, description="more metrics, each as name: package.module:function"
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="confidence level of the intervals"
    )
    bootstraps: int = Field(default=400, ge=100, le=5000, description="number of bootstrap samples")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the bootstrap")
    output: Table = Field(description="table for the metrics")
    disagreements: Disagreements | None = Field(
        default=None, description="table for the rows on which versions disagree most"
    )
    quarantine: Table | None = Field(
        default=None, description="table for the rows that a version could not score"
    )
    report: str = Field(
        default="reports",
        min_length=1,
        description="folder for the report; a relative path is below LAKESCORE_HOME",
    )
    gates: Gates | None = Field(
        default=None, description="the conditions for a candidate, and the action if it meets them"
    )

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        known = [*RANKING, *self.custom_metrics]
        requested = {"rank_by": [self.rank_by] if self.rank_by else []}
        requested["gates.metrics"] = list(self.gates.metrics) if self.gates else []
        for key, names in requested.items():
            for name in names:
                if name not in known and name.partition("/")[0] not in RANKING:
                    raise ValueError(
                        f"{key}: there is no metric {name!r} that can rank{nearest(name, known)}; "
                        f"there are: {listed(known, most=40)}"
                    )
        return self

    @model_validator(mode="after")
    def _check_row_tables(self) -> Self:
        for name in ("disagreements", "quarantine"):
            if getattr(self, name) is not None and not self.id_columns:
                raise ValueError(f"{name} needs id_columns, which identify its rows")
            if getattr(self, name) is not None and (
                taken := _ROW_TABLE_COLUMNS & set(self.id_columns)
            ):
                raise ValueError(
                    f"id_columns: the table {name} has its own columns with the names "
                    f"{listed(sorted(taken))}; rename those of the holdout"
                )
        return self

    @model_validator(mode="after")
    def _check_versions(self) -> Self:
        _check_families(self, self.families)
        for name in {family.called for family in self.families}:
            alike = {
                (family.by, str(family.missing))
                for family in self.families
                if family.called == name
            }
            if len(alike) > 1:
                raise ValueError(f"versions: {name} occurs twice, with another by or missing")
        if self.families and self.gates and self.gates.on_pass is not None:
            raise ValueError(
                "gates.on_pass: it moves one alias, but versions has a model per segment; leave it "
                "out"
            )
        return self

    @property
    def families(self) -> tuple[Segments, ...]:
        """The entries of `versions` that are a model per segment."""
        entries = () if isinstance(self.versions, VersionQuery) else self.versions
        return tuple(entry for entry in entries if isinstance(entry, Segments))

    @property
    def references(self) -> tuple[str | Segments, ...]:
        """The entries of `versions`; nothing for a query."""
        return () if isinstance(self.versions, VersionQuery) else self.versions

    @property
    def query(self) -> dict[str, Any] | None:
        """The query in `versions`, if it is one, as arguments of `registry.versions`."""
        return self.versions.model_dump() if isinstance(self.versions, VersionQuery) else None

    @property
    def candidate(self) -> str | None:
        """The name of the candidate that gates are for, if the file names one."""
        return self.gates.candidate if self.gates else None

    @property
    def comparing(self) -> CompareOptions:
        """How versions are compared."""
        return CompareOptions(
            label=self.label,
            keys=self.id_columns,
            weight=self.weight,
            slices=self.slices.by if self.slices else (),
            small=self.slices.small if self.slices else 1,
            problem_type=self.problem_type,
            rank_by=self.rank_by,
            positive_class=self.positive_class,
            custom_metrics=self.custom_metrics,
            confidence=self.confidence,
            bootstraps=self.bootstraps,
            seed=self.seed,
            most_disagreements=self.disagreements.rows if self.disagreements else 1,
        )

    @property
    def gating(self) -> GateOptions:
        """The conditions for the candidate."""
        gates = self.gates or Gates(mode="disabled")
        return GateOptions(
            thresholds={
                name: Threshold(**gate.model_dump()) for name, gate in gates.metrics.items()
            },
            mode=gates.mode,
            signature=gates.signature,
            on_pass=gates.on_pass,
        )

    @property
    def row_settings(self) -> dict[str, Any]:
        """The settings that decide which rows count, and with which weight."""
        return {name: getattr(self, name) for name in ("label", "where", "weight")}

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that decide the results."""
        excluded = {"versions", "holdout", "output", "engine", "scan", "experiment", "run_id",
                    "receipt", "prometheus", "timeout_seconds", "trust", "disagreements",
                    "quarantine", "report", "runner"}  # fmt: skip
        return self.model_dump(mode="json", exclude=excluded)

    @property
    def binding(self) -> BindOptions:
        """How the holdout's columns become features."""
        return self._bind_options([self.label, *self.keep])

    @property
    def keep(self) -> tuple[str, ...]:
        """The holdout's columns that are kept beside the predictions."""
        weight = (self.weight,) if self.weight else ()
        slices = self.slices.by if self.slices else ()
        segments = [family.by for family in self.families]
        return tuple(dict.fromkeys([*self.id_columns, *weight, *slices, *segments]))

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses of the tables to write, by content; the metrics, which rank, are last."""
        tables = {"disagreements": self.disagreements, "quarantine": self.quarantine,
                  "metrics": self.output}  # fmt: skip
        return {name: table.address for name, table in tables.items() if table is not None}

    def pinned(self, receipt: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a job's file that gives the results of *receipt* again.

        A model per segment keeps its name; a later run resolves that name again.
        """
        families = {family.called: family.model_dump(mode="json") for family in self.families}
        excluded = {"run_id", "receipt", "prometheus", "trust", "timeout_seconds"}
        values = self.model_dump(
            mode="json", exclude=excluded, exclude_defaults=True, by_alias=True
        )
        uris = [ranked["uri"] for ranked in receipt["ranking"]]
        return {
            **values,
            "versions": [families.get(uri, uri) for uri in uris],
            "baseline": receipt["baseline"],
            "holdout": {**values["holdout"], "version": receipt["holdout"]["version"]},
        }

    @property
    def pages(self) -> Path:
        """The absolute folder for the report."""
        return home() / Path(self.report).expanduser()


class ReplayJob(_Job):
    """Make the predictions of a run again, and check that they are the same."""

    output: Table = Field(description="table of predictions that the run wrote")
    run: _RunId = Field(description="id of the run: scoring_run_id in its rows")
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="numbers are equal if they differ by at most this fraction of the larger one",
    )


JOBS: dict[str, type[ScoreJob | CompareJob | ReplayJob]] = {
    "score": ScoreJob,
    "compare": CompareJob,
    "replay": ReplayJob,
}

J = TypeVar("J", bound=BaseModel)


_UNION_CASES: dict[str, type[Strict] | None] = {
    "list": None,
    "otherwise": Otherwise,
    "query": VersionQuery,
    "reference": None,
    "rule": None,
    "segments": Segments,
}
"""The cases of unions by their tags; each with the type that defines its keys, if it has keys."""


def kind_of(path: Path, overrides: Sequence[str] = ()) -> Literal["score", "compare"]:
    """Return the kind of job of a file: only the file of a compare job has `versions`.

    Raises:
        ConfigError: the file does not exist, or does not contain keys and values.
    """
    values = read(path)
    for override in overrides:
        _apply_override(values, override)
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
        ConfigError: one line names the file, the key, the problem and the nearest valid key.
    """
    values = read(path)
    if isinstance(values.get("trust"), str):
        values["trust"] = str(path.parent / values["trust"])
    for key, value in changes.items():
        _set_value(values, key, value)
    for override in overrides:
        _apply_override(values, override)
    return validate(kind, path, values)


def validate(kind: type[J], path: Path, values: Mapping[str, object]) -> J:
    """Return the *values* of the file at *path* as an instance of *kind*.

    Raises:
        ConfigError: as `load`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(kind, error)}") from None


def read(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file; its scalars stay texts.

    Raises:
        ConfigError: the file does not exist, or does not contain keys and values.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"{path} has more than {_LARGEST_FILE} bytes: not a job's file")
        values = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        files = [str(file) for file in sorted(path.parent.glob("*.yaml"))]
        raise ConfigError(
            f"there is no file {path}{nearest(str(path), files)}; there are: {listed(files)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain keys and values, as conf/score.yaml does")
    return values


class _TextLoader(Spelt):
    """Read scalars as texts, exactly as written; the job's type converts them.

    YAML's own guesses would turn a slice 010 into 8 and 12:30 into 750. A key that occurs twice is
    an error; in plain YAML the last one wins.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


_NULL = "tag:yaml.org,2002:null"
_TextLoader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_TextLoader.add_constructor(_NULL, lambda _loader, _node: None)


def _parse_yaml(text: str) -> Any:  # noqa: ANN401 - any value of YAML
    try:
        return yaml.load(text, _TextLoader)  # noqa: S506 - creates only texts, lists and mappings
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def is_override(word: str) -> bool:
    """Return whether a *word* of the command line overrides a key."""
    return re.fullmatch(rf"{_KEY}=.*", word, re.DOTALL) is not None


def _apply_override(values: dict[str, Any], override: str) -> None:
    if not is_override(override):
        raise ConfigError(f"{override!r} is not an override; write key=value or input.version=3")
    key, _, text = override.partition("=")
    try:
        value = _parse_yaml(text) if text[:1] in _FLOW or text in _EMPTY else text
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the override {override!r}: {error}") from None
    _set_value(values, key, value)


def _set_value(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.get(parent)
        values[parent] = dict(inner) if isinstance(inner, dict) else {}
        values = values[parent]
    if parents and last in _OTHER_ADDRESS:
        values.pop(_OTHER_ADDRESS[last], None)
    values[last] = value


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    # A mistyped key is also a missing key. The mistyped key says more, so it comes first.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    parts = [str(part) for part in problem["loc"]]
    path = [part for n, part in enumerate(parts) if n == 0 or not _is_case(parts[:n], kind, part)]
    *parents, last = path or [""]
    more = f" (and {error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        valid = _valid_keys(kind, parts[:-1])
        within = f" in {'.'.join(parents)}" if parents else ""
        known = f"{nearest(last, valid)}; valid keys: {listed(valid, most=20)}"
        return f"unknown key {last!r}{within}{known}{more}"
    where = ".".join(path)
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where + ': ' if where else ''}{message}{more}"


def _is_case(parents: Sequence[str], kind: type[BaseModel], part: str) -> bool:
    """Return whether a *part* of an error's path is the case of a union, not a key of the file."""
    in_list = parents[0] == "versions" and parents[-1].isdigit()
    in_union = parents[-1] in _UNION_KEYS and (
        len(parents) == 1 or parents[0] in {"model", "versions"}
    )
    return (in_union or in_list) and parents[0] in kind.model_fields and part in _UNION_CASES


def _valid_keys(kind: type[BaseModel], parents: Sequence[str]) -> list[str]:
    job = kind
    for n, parent in enumerate(parents):
        if n and _is_case(parents[:n], job, parent):
            kind = _UNION_CASES[parent] or kind
        elif parent in kind.model_fields:  # otherwise a mapping's key, or a list's index
            kind = _nested_model(kind.model_fields[parent].annotation) or kind
    return [field.alias or name for name, field in kind.model_fields.items()]


def _nested_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any type
    """Return the model in an annotation: the annotation itself, or the last of its parts."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [_nested_model(part) for part in get_args(annotation)]
    return next((model for model in reversed(models) if model), None)
