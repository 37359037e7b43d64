"""The gates in the file of a compare job: the conditions for a candidate, and what to do then."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from lakescore.config.strict import Strict
from lakescore.metrics import RATES
from lakescore.options import GateMode, UnknownRule
from lakescore.wording import either


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


class SliceGate(Strict):
    """By how much a metric of the candidate may be worse than the baseline's in any slice."""

    max_loss: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="in the metric's units; the bound of its confidence interval counts",
    )
    max_relative_loss: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the same, as a fraction of the baseline's value in the slice",
    )

    @model_validator(mode="after")
    def _check_given(self) -> Self:
        if self.max_loss is None and self.max_relative_loss is None:
            raise ValueError("give max_loss, max_relative_loss or both")
        return self


class RateGate(Strict):
    """By how much a rate of the candidate may differ between groups."""

    max_difference: float = Field(
        ge=0,
        le=1,
        description="the greatest rate minus the least; the bound of its interval counts",
    )


class Groups(Strict):
    """The groups of rows between which rates of the candidate must not differ."""

    by: tuple[str, ...] = Field(
        min_length=1,
        description="columns of slices.by; each value of a column is a group (at most 50)",
    )
    selection_rate: RateGate | None = Field(
        default=None, description="the share of rows that are predicted to be positive"
    )
    true_positive_rate: RateGate | None = Field(
        default=None, description="the share of positive rows that are predicted to be positive"
    )
    false_positive_rate: RateGate | None = Field(
        default=None, description="the share of negative rows that are predicted to be positive"
    )

    @property
    def limits(self) -> dict[str, float]:
        """The allowed difference of each rate that is given."""
        gates = {name: getattr(self, name) for name in RATES}
        return {name: gate.max_difference for name, gate in gates.items() if gate is not None}

    @model_validator(mode="after")
    def _check_given(self) -> Self:
        if not self.limits:
            raise ValueError(f"give a condition for a rate: {either(RATES)}")
        return self


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
    slices: dict[str, SliceGate] = Field(
        default={},
        description="the conditions for each metric in every slice of slices.by: {max_loss: 0.5}",
    )
    groups: Groups | None = Field(
        default=None,
        description="the conditions for differences of rates between groups, with two classes",
    )
    unknown_slices: UnknownRule = Field(
        default="pass",
        description="whether the conditions for slices and groups pass or fail if the rows of a "
        "slice do not decide, or if it is small; no slice may be worse for sure in either case",
    )
    signature: bool = Field(
        default=True,
        description="whether the candidate's signature must be compatible with the baseline's",
    )
    on_pass: Annotated[str, Field(pattern=r"^(promote|set alias [\w-]+)$")] | None = Field(
        default=None,
        description="what to do with the candidate: promote (to champion), or set alias NAME",
    )
