"""The settings of predictions for a DataFrame, which belongs to no job."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from lakescore.config.jobs import Engine, Policy, Usage

if TYPE_CHECKING:
    from lakescore.options import BindOptions, NullRule


class Prediction(Usage):
    """Predict the rows of a DataFrame with one pinned model version."""

    model: str = Field(
        min_length=1,
        description="the model version: name/3, name@alias, name/latest, models:/..., or "
        "name?where=...&order_by=...",
    )
    keep: tuple[str, ...] | None = Field(
        default=None, description="columns to return beside the prediction; default: all"
    )
    lineage: bool = Field(
        default=False,
        description="whether to add the columns that name the version: model_name, model_version, "
        "model_uri, logged_model_id, model_run_id and model_reference",
    )
    failing: Literal["raise", "null"] = Field(
        default="raise",
        description="how to treat rows that the model cannot score: raise (the query ends), or "
        "null (their predictions are null, and the column error has the reason)",
    )
    engine: Engine = "auto"
    trust: Policy

    @model_validator(mode="after")
    def _check_nulls(self) -> Self:
        refused = [name for name, rule in self.nulls.items() if rule == "fail"]
        if refused and self.failing == "null":
            raise ValueError(
                f"nulls.{refused[0]}: fail ends the query at a null, but failing: null returns "
                "such a row; leave one of them out"
            )
        return self

    @property
    def binding(self) -> BindOptions:
        """How the frame's columns become features.

        A frame is not read before its query runs. So `fail` has workers refuse the row, and
        `failing: raise` then ends the query.
        """
        rules: dict[str, NullRule] = {
            name: "quarantine" if rule == "fail" else rule for name, rule in self.nulls.items()
        }
        return replace(self._bind_options(()), nulls=rules)
