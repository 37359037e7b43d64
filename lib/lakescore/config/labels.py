"""The labels that arrive after the predictions: where they are, and when a slice is final."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lakescore.config.tables import InputTable
from lakescore.options import ProblemType


class Labels(InputTable):
    """The table of labels, which are matched with predictions by their keys."""

    column: str = Field(min_length=1, description="column of the labels: the true values")
    keys: tuple[str, ...] = Field(
        default=(),
        description="columns that identify a row in both tables; default: id_columns of the score "
        "job",
    )
    slice_by: str | None = Field(
        default=None,
        description="column of the table of labels that names the slice of a prediction; with it, "
        "only the labels of monitored slices are read; default: all labels are read",
    )
    arrived_at: str | None = Field(
        default=None, description="column of the table of labels with the time of their arrival"
    )
    prediction: str | None = Field(
        default=None,
        description="column of the predictions to compare with the labels; default: the only "
        "output, or the probabilities",
    )
    problem_type: ProblemType | None = Field(
        default=None, description="regression, binary or multiclass; default: from the types"
    )
    rank_by: str | None = Field(
        default=None,
        description="the metric that the page and the summary show; default: rmse, accuracy or "
        "log_loss",
    )
    positive_class: str | None = Field(
        default=None, description="class of precision, recall and f1; default: as in compare jobs"
    )
    final_share: float = Field(
        default=1.0, gt=0, le=1, description="share of labelled rows with which a slice is final"
    )
    final_days: float = Field(
        default=30,
        gt=0,
        description="days after its scoring with which a slice is final, whatever the share",
    )

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("keys names a column twice")
        if self.column in self.keys:
            raise ValueError(f"the label {self.column!r} cannot be a key")
        return self
