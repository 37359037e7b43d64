"""The models that a job names: a reference, one model per segment, or a query for versions."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from lakescore.config.strict import Strict
from lakescore.options import family_name


class Otherwise(Strict):
    """The model that scores the rows of segments without their own model."""

    default: str = Field(min_length=1, description="reference of that model")


class Segments(Strict):
    """One model per segment: each value of a column has its own model."""

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


Model = Annotated[
    Annotated[str, Field(min_length=1), Tag("reference")] | Annotated[Segments, Tag("segments")],
    Discriminator(_kind_of_model),
]


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
