"""What a job does: one frozen type a job, and one YAML file field for field like it."""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lakescore.errors import ConfigError, listed, nearest
from lakescore.home import home
from lakescore.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_FILE = 1_000_000
_EMPTY = ("", "~", "null")
_FLOW = ("[", "{")
"""How YAML's lists and mappings begin; any other override is taken as it stands."""
_OTHER_ADDRESS = {"path": "table", "table": "path"}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NAME = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,2}$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Table(_Strict):
    """A Delta table: by path, or by name in the catalog."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="folder or URI of the table; a relative path lies under LAKESCORE_HOME",
    )
    table: str | None = Field(
        default=None, pattern=_NAME, description="name in the catalog: [[catalog.]schema.]table"
    )

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


class TrustFile(_Strict):
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


class _Job(_Strict):
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
    experiment: str = Field(
        default="lakescore", min_length=1, description="MLflow experiment that the run is logged in"
    )
    run_id: _RunId | None = Field(
        default=None, description="id of the run; derived from its inputs when left out"
    )
    receipt: Path | None = Field(
        default=None, description="file that the receipt is written to, beside the last line"
    )
    trust: Annotated[Trust, BeforeValidator(_policy_of, json_schema_input_type=str | Trust)] = (
        Field(
            default_factory=policy,
            description="the file of the trust policy, from this file's folder, or its rules; "
            "LAKESCORE_TRUST when left out",
        )
    )


class Pyfunc(_Strict):
    """What MLflow's loader and `predict` are given; the model says which there are."""

    params: dict[str, str] = Field(
        default_factory=dict, description="parameters of its signature, for `predict`"
    )
    config: dict[str, str] = Field(
        default_factory=dict,
        alias="model_config",  # the name that pydantic keeps for itself
        description="values of the configuration that it was logged with",
    )


NullRule = Literal["model", "fail", "null", "quarantine"]


class ScoreJob(_Job):
    """Score slices of a Delta table with one pinned model version."""

    model: str = Field(
        min_length=1,
        description="name/3, name@alias, name/latest, models:/..., or name?where=...&order_by=...",
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
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="the input's column for each feature that has another name there",
    )
    nulls: dict[str, NullRule] = Field(
        default_factory=dict,
        description="for each feature, what becomes of a row that has a null there: model asks the "
        "model, fail scores nothing at all, null publishes a null, quarantine sets the row aside "
        "(integers and booleans, which no model can be asked about); model when left out",
    )
    prediction: Literal["prediction", "proba"] = Field(
        default="prediction",
        description="what is written: what the model predicts, or a classifier's probabilities as "
        "p_<class>",
    )
    threshold: float | None = Field(
        default=None,
        description="adds a column decision: whether the score, or of two classes the second's "
        "probability, reaches it",
    )
    pyfunc: Pyfunc = Field(
        default_factory=Pyfunc, description="params and model_config of the model"
    )
    env_manager: Literal["local", "virtualenv", "uv", "conda"] = Field(
        default="local",
        description="whose packages the model runs with: those here, or an environment that "
        "MLflow's spark_udf makes as it was logged",
    )
    write_mode: Literal["replace", "append", "merge"] = Field(
        default="replace",
        description="how a slice is published: in the place of what it held, beside it, or row by "
        "row in the place of those with the same keys",
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
    def _slices_need_a_column(self) -> Self:
        if (self.slice_by is None) != (self.slices is None):
            raise ValueError("slice_by and slices go together: give both or neither")
        _ = self.slice_names
        return self

    @property
    def slice_names(self) -> tuple[str, ...]:
        """The slices asked for by name, in order; `all` where the whole table is one slice."""
        if self.slices is None:
            return ("all",)
        if self.slices == "due":
            return ()
        if not isinstance(self.slices, str):
            return tuple(dict.fromkeys(self.slices))
        first, dots, last = self.slices.partition("..")
        return _days(first, last) if dots else (self.slices,)

    @property
    def aside(self) -> str:
        """The address of the quarantine."""
        if self.quarantine is not None:
            return self.quarantine.address
        return self.output.address.rstrip("/") + "_quarantine"

    @property
    def writes_keys(self) -> bool:
        """Whether the output holds the keys, by which the quarantine's rows are found too."""
        return self.passthrough != "none"

    def keep(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of *there*, the input's, that are read for the output, keys first."""
        if self.passthrough == "all":
            return tuple(dict.fromkeys([*self.id_columns, *there]))
        more = () if isinstance(self.passthrough, str) else self.passthrough
        return (*self.id_columns, *more)

    def allowed_errors(self, rows: int) -> int:
        """Return how many of so many *rows* may fail."""
        return max(self.max_errors, int(self.max_error_fraction * rows))

    @property
    def unique(self) -> tuple[str, ...]:
        """The input's columns that must name a row of its slice."""
        return self.id_columns if self.on_duplicate_key == "fail" else ()

    @property
    def loading(self) -> dict[str, Any]:
        """How the version is loaded, as `loading.prepare` takes it."""
        return {
            "output": self.prediction,
            "params": self.pyfunc.params,
            "model_config": self.pyfunc.config,
            "env_manager": self.env_manager,
        }

    @property
    def contract(self) -> dict[str, Any]:
        """What the version takes and gives, as `signature.agree` takes it."""
        read = (self.slice_by,) if self.slice_by else ()
        names = {"columns": self.columns, "nulls": self.nulls, "threshold": self.threshold}
        return {"read": read, **names}

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
    return tuple(str(start + timedelta(days=n)) for n in range((end - start).days + 1))


Metric = Literal["rmse", "mae", "r2", "accuracy", "f1", "roc_auc", "log_loss"]


class CompareJob(_Job):
    """Score several versions on one holdout, all rows, and rank them."""

    versions: tuple[str, ...] = Field(
        min_length=1, description="references of the versions to compare, as in a score job's model"
    )
    holdout: InputTable = Field(description="the table of labelled rows")
    label: str = Field(min_length=1, description="the holdout's column with the true value")
    rank_by: Metric = Field(description="the metric that ranks, better first")
    output: Table = Field(description="the table that the ranking is appended to")


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


def load(kind: type[J], path: Path, overrides: Sequence[str] = ()) -> J:
    """Read the job's file at *path*, with *overrides* (`key=value`, `input.version=3`) on top.

    Raises:
        ConfigError: in one line, the file, the key, what is wrong, and the nearest valid key.
    """
    values = _read(path)
    if isinstance(values.get("trust"), str):
        values["trust"] = str(path.parent / values["trust"])
    for override in overrides:
        _apply(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(kind, error)}") from None


def _read(path: Path) -> dict[str, Any]:
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


class _Texts(yaml.BaseLoader):
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


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise ConfigError(f"{override!r} is not an override; write key=value or input.version=3")
    try:
        value = _parsed(text) if text[:1] in _FLOW or text in _EMPTY else text
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the override {override!r}: {error}") from None
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
    *parents, last = [str(part) for part in problem["loc"]] or [""]
    more = f" (and {error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        valid = _keys(kind, parents)
        within = f" in {'.'.join(parents)}" if parents else ""
        known = f"{nearest(last, valid)}; valid keys: {listed(valid, most=20)}"
        return f"unknown key {last!r}{within}{known}{more}"
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where + ': ' if where else ''}{message}{more}"


def _keys(kind: type[BaseModel], parents: Sequence[str]) -> list[str]:
    for parent in parents:
        inner = kind.model_fields[parent].annotation
        assert isinstance(inner, type)  # noqa: S101 - narrows for mypy
        kind = inner
    return [field.alias or name for name, field in kind.model_fields.items()]
