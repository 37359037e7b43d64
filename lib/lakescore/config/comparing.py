"""The file of a compare job: the versions, the holdout, the metrics and the gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Discriminator, Field, Tag, model_validator

from lakescore.config.gates import Gates
from lakescore.config.jobs import Applying, check_families
from lakescore.config.models import Model, Segments, VersionQuery
from lakescore.config.strict import Strict
from lakescore.config.tables import InputTable, Table
from lakescore.home import home
from lakescore.metrics import RANKING
from lakescore.options import (
    BindOptions,
    CompareOptions,
    GateOptions,
    LossLimit,
    ProblemType,
    Threshold,
)
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROW_TABLE_COLUMNS = {
    *("comparing_run_id", "holdout_table", "holdout_version", "holdout_digest", "compared_at"),
    *("disagreement", "model_uri", "error_type", "error"),
}
"""The columns of the tables of rows that a comparison writes, besides the keys."""


_UNBOUNDED = "max_error"


class Slices(Strict):
    """The parts of the holdout that get their own metrics."""

    by: tuple[str, ...] = Field(
        min_length=1,
        description="columns; each value of a column is a slice (at most 200 per column)",
    )
    small: int = Field(default=100, ge=1, description="slices with fewer rows are marked as small")


class Disagreements(Table):
    """The table of the rows on which versions disagree most."""

    rows: int = Field(default=100, ge=1, le=100_000, description="number of rows")


def _kind_of_versions(value: object) -> str:
    return "query" if isinstance(value, (dict, VersionQuery)) else "list"


class CompareJob(Applying):
    """Score several versions on all rows of one holdout, and rank them."""

    job_name: ClassVar[str] = "compare"

    versions: Annotated[
        Annotated[tuple[Model, ...], Field(min_length=1), Tag("list")]
        | Annotated[VersionQuery, Tag("query")],
        Discriminator(_kind_of_versions),
    ] = Field(
        description="the versions to compare: a list of references, or of {by, name, missing} for "
        "one model per segment; or a query with the keys name, where, order_by and limit"
    )
    baseline: str | None = Field(
        default=None,
        description="reference of the version to compare the others with, or the name of an "
        "entry with one model per segment; default: the first entry if it has one model per "
        "segment, otherwise the model's champion, otherwise the first version",
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
        requested["gates.slices"] = list(self.gates.slices) if self.gates else []
        for key, names in requested.items():
            for name in names:
                if name not in known and name.partition("/")[0] not in RANKING:
                    raise ValueError(
                        f"{key}: there is no metric {name!r} that can rank{nearest(name, known)}; "
                        f"there are: {listed(known, most=40)}"
                    )
        return self

    @model_validator(mode="after")
    def _check_slice_gates(self) -> Self:
        if self.gates is None:
            return self
        names = [name for name in ("slices", "groups") if getattr(self.gates, name)]
        if not names:
            if "unknown_slices" in self.gates.model_fields_set:
                raise ValueError("gates.unknown_slices is about gates.slices and gates.groups")
            return self
        if self.slices is None:
            raise ValueError(
                f"gates.{names[0]} needs slices; add the columns that divide the holdout, such as "
                "slices: {by: [region]}"
            )
        if self.gates.groups is not None:
            missing = [name for name in self.gates.groups.by if name not in self.slices.by]
            if missing:
                raise ValueError(
                    f"gates.groups.by: {listed(missing)} is not among slices.by"
                    f"{nearest(missing[0], self.slices.by)}; add it there"
                )
        if _UNBOUNDED in self.gates.slices and _UNBOUNDED not in self.custom_metrics:
            raise ValueError(
                f"gates.slices: bootstraps do not bound {_UNBOUNDED}, which one new row can "
                "change; use absolute_error_p95, rmse or mae"
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
        check_families(self, self.families)
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
                "gates.on_pass: it moves one alias, but versions has one model per segment; leave "
                "on_pass out"
            )
        return self

    @property
    def families(self) -> tuple[Segments, ...]:
        """The entries of `versions` with one model per segment."""
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
        gates = self.gates if self.gates and self.gates.mode != "disabled" else None
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
            protected=tuple(gates.slices) if gates else (),
            grouped=gates.groups.by if gates and gates.groups else (),
        )

    @property
    def gating(self) -> GateOptions:
        """The conditions for the candidate."""
        gates = self.gates or Gates(mode="disabled")
        return GateOptions(
            thresholds={
                name: Threshold(**gate.model_dump()) for name, gate in gates.metrics.items()
            },
            slices={name: LossLimit(**gate.model_dump()) for name, gate in gates.slices.items()},
            unknown_slices=gates.unknown_slices,
            rates=gates.groups.limits if gates.groups else {},
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
        if not self.features:  # the ids of comparisons stay as they were
            excluded.add("features")
        if self.environment == "auto":
            excluded.add("environment")
        settings = self.model_dump(mode="json", exclude=excluded)
        if self.gates is not None:
            absent = [name for name in ("slices", "groups") if not getattr(self.gates, name)]
            for name in [*absent, *(["unknown_slices"] if len(absent) > 1 else [])]:
                del settings["gates"][name]
        return settings

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

        An entry with one model per segment keeps its name; a later run resolves that name again.
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
