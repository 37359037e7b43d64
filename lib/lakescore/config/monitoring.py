"""The file of a monitor job: the predictions, the baseline, and what raises an alarm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lakescore import metrics
from lakescore.config.jobs import Job
from lakescore.config.labels import Labels
from lakescore.config.slices import is_range, list_slices
from lakescore.config.strict import Strict
from lakescore.config.tables import InputTable, Table
from lakescore.home import home
from lakescore.options import CHANCES, MEASURES, ChanceName
from lakescore.wording import described, listed, nearest

Slices = str | Annotated[tuple[str, ...], Field(min_length=1)]


class Baseline(Strict):
    """What the slices are compared with: rows of a table, or earlier slices of the predictions."""

    path: str | None = Field(
        default=None, min_length=1, description="folder or URI of a table, such as training rows"
    )
    table: str | None = Field(default=None, description="its name in the catalog")
    version: int | None = Field(
        default=None, ge=0, description="version of the table; default: the latest"
    )
    slice_by: str | None = Field(
        default=None,
        description="column that divides the table into slices; default: slice_by of the score job",
    )
    slices: Slices | None = Field(
        default=None,
        description="slices of the baseline: a value, a list or a range of days; of the table, or "
        "without a table, of the predictions",
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source is None and self.slices is None:
            raise ValueError("give path or table of a table, or slices of the predictions")
        if self.source is None and (self.version is not None or self.slice_by is not None):
            raise ValueError("version and slice_by belong to a table: give path or table")
        _ = self.slice_names
        return self

    @property
    def source(self) -> InputTable | None:
        """The table of the baseline; None if it is slices of the predictions."""
        if self.path is None and self.table is None:
            return None
        return InputTable(path=self.path, table=self.table, version=self.version)

    @property
    def slice_names(self) -> tuple[str, ...] | None:
        """The names of the baseline's slices; None for all rows of a table."""
        return None if self.slices is None else list_slices(self.slices)

    @property
    def is_range(self) -> bool:
        """Whether the slices are a range of days, some of which can have no rows."""
        return is_range(self.slices)


class DriftGates(Strict):
    """The conditions for the monitored slices."""

    mode: Literal["enforce", "dry_run"] = Field(
        default="enforce",
        description="enforce (exit with code 6 if a gate is not met), or dry_run (only report it)",
    )
    alarms: tuple[str, ...] = Field(
        default=(),
        description="columns whose alarms are not accepted: names of features and outputs, or any",
    )
    limits: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = Field(
        default={},
        description="by column, or any: the largest accepted value of a measure, such as "
        "{any: {psi: 0.25}}; it counts without regard to chance",
    )

    quality: dict[str, float] = Field(
        default={},
        description="by metric, the worst accepted value in a slice whose labels are final, such "
        "as {rmse: 15}; it is not met if the whole interval of the metric is worse",
    )

    @field_validator("quality")
    @classmethod
    def _check_metrics(cls, quality: dict[str, float]) -> dict[str, float]:
        for name in quality:
            metric = metrics.find(name)
            if metric is None or not metric.ranks:
                raise ValueError(
                    f"there is no metric {name!r} that can be better or worse"
                    f"{nearest(name, metrics.RANKING)}; there are: "
                    f"{listed(metrics.RANKING, most=40)}"
                )
        return quality

    @field_validator("limits")
    @classmethod
    def _check_measures(cls, limits: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for measures in limits.values():
            for name in measures:
                if name not in MEASURES:
                    raise ValueError(
                        f"there is no measure {name!r}{nearest(name, MEASURES)}; there are: "
                        f"{listed(MEASURES, most=20)}"
                    )
        return limits


class MonitorJob(Job):
    """Compare what was scored with a baseline, and raise alarms that chance does not explain."""

    job_name: ClassVar[str] = "monitor"

    predictions: Table = Field(description="table of predictions that score jobs wrote")
    model: str | None = Field(
        default=None,
        min_length=1,
        description="name of the registered model whose predictions are monitored; needed if the "
        "table has those of several models",
    )
    slices: Slices = Field(
        default="due",
        description="slices to monitor: a value, a list, a range of days, or due: all that were "
        "not monitored since they were scored",
    )
    baseline: Baseline = Field(description="what the slices are compared with")
    columns: tuple[str, ...] = Field(
        default=(),
        description="columns of the input to monitor, besides predictions; default: the features",
    )
    by: tuple[str, ...] = Field(
        default=(),
        description="columns that divide a slice into segments, which are monitored too; at most "
        "200 values each; the input and the predictions have these columns",
    )
    chance: ChanceName = Field(
        default="auto",
        description=f"which differences chance explains: {', '.join(described(CHANCES))}",
    )
    level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="the part of slices that raise an alarm although nothing has changed",
    )
    output: Table = Field(description="table for the drift of columns")
    profile: Table | None = Field(
        default=None,
        description="table for the distributions of columns; default: the output's path or name "
        "with _profile at its end",
    )
    labels: Labels | None = Field(
        default=None, description="the labels that arrive later; default: quality is not measured"
    )
    quality: Table | None = Field(
        default=None,
        description="table for the metrics of labelled predictions; default: the output's path or "
        "name with _quality at its end",
    )
    report: str = Field(
        default="reports",
        min_length=1,
        description="folder for the page; a relative path is below LAKESCORE_HOME",
    )
    gates: DriftGates | None = Field(default=None, description="what is not accepted")

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        addresses = [
            self.predictions.address, self.output.address, self.profile_address,
            self.quality_address,
        ]  # fmt: skip
        if len(set(addresses)) < len(addresses):
            raise ValueError("predictions, output, profile and quality: give different tables")
        if self.labels is not None and self.labels.address in addresses[1:]:
            raise ValueError("labels: give a table that this job does not write")
        if self.gates is not None and self.gates.quality and self.labels is None:
            raise ValueError("gates.quality needs labels")
        _ = self.slice_names
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        for key in ("columns", "by"):
            names = getattr(self, key)
            if repeated := [name for n, name in enumerate(names) if name in names[:n]]:
                raise ValueError(f"{key} names {listed(map(repr, repeated))} twice")
        return self

    @property
    def due(self) -> bool:
        """Whether the run itself finds the slices to monitor."""
        return self.slices == "due"

    @property
    def slice_names(self) -> tuple[str, ...]:
        """The names of the requested slices; none if the run finds them."""
        return () if self.due else list_slices(self.slices)

    @property
    def is_range(self) -> bool:
        """Whether the slices are a range of days, some of which can have no rows."""
        return is_range(self.slices)

    @property
    def profile_address(self) -> str:
        """The address of the table for distributions."""
        if self.profile is not None:
            return self.profile.address
        return self.output.address.rstrip("/") + "_profile"

    @property
    def quality_address(self) -> str:
        """The address of the table for the metrics of labelled predictions."""
        if self.quality is not None:
            return self.quality.address
        return self.output.address.rstrip("/") + "_quality"

    @property
    def pages(self) -> Path:
        """The absolute folder for the page."""
        return home() / Path(self.report).expanduser()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the written rows, besides the predictions."""
        names = {"columns", "by", "chance", "level", "baseline"}
        return self.model_dump(mode="json", include=names)
