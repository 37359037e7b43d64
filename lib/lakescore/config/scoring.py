"""The file of a score job: which slices are scored, and where and how they are published."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lakescore.config.expecting import Expectations
from lakescore.config.jobs import Applying, check_families
from lakescore.config.models import Model, Segments
from lakescore.config.slices import list_slices
from lakescore.config.tables import InputTable, Table
from lakescore.options import ExpectOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.options import BindOptions


class ScoreJob(Applying):
    """Score slices of a Delta table with one pinned model version, or one version per segment."""

    job_name: ClassVar[str] = "score"

    model: Model = Field(
        description="the model version: name/3, name@alias, name/latest, models:/..., or "
        "name?where=...&order_by=...; or for one model per segment the keys by, name and missing",
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
    expect: Expectations | None = Field(
        default=None, description="what the input must be like; default: anything is scored"
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
        check_families(self, [self.model] if isinstance(self.model, Segments) else [])
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

    @model_validator(mode="after")
    def _check_expect(self) -> Self:
        if self.expect is not None and self.expect.rows is not None and self.slice_by is None:
            raise ValueError("expect.rows compares a slice with those before it: give slice_by")
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
        return list_slices(self.slices)

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
        """The input's columns that identify a row, and those that workers look at."""
        return self._add_inspected(self.id_columns)

    def keep(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return those of the input's *columns* that go through the workers, keys first."""
        return self._add_inspected(self._written_columns(columns))

    def _add_inspected(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return *names*, the column of segments, and the columns with expectations."""
        segment = () if self.segment_by is None else (self.segment_by,)
        expected = () if self.expect is None else self.expect.columns
        more = dict.fromkeys([*segment, *expected])
        return (*names, *[name for name in more if name not in names])

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
        """The column that names a row's segment; None unless there is one model per segment."""
        return self.model.by if isinstance(self.model, Segments) else None

    @property
    def unique(self) -> tuple[str, ...]:
        """The input's columns that must identify a row within its slice; empty without a check."""
        return self.id_columns if self.on_duplicate_key == "fail" else ()

    @property
    def binding(self) -> BindOptions:
        """How the input's columns become features."""
        expecting = self.expecting
        named = (self.slice_by, self.segment_by, expecting.newest)
        read = [name for name in (*named, *expecting.values, *expecting.nulls) if name]
        return replace(self._bind_options(read), expect=expecting)

    @property
    def expecting(self) -> ExpectOptions:
        """What the input must be like."""
        return ExpectOptions() if self.expect is None else self.expect.options

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
        if self.features:  # without them, the ids of runs stay as they were
            names.add("features")
        if self.environment != "auto":
            names.add("environment")
        settings = self.model_dump(mode="json", include={*names, "pyfunc"}, by_alias=True)
        if self.expect is not None and self.expect.values:
            settings["expect"] = {"values": self.expect.values}
        return settings
