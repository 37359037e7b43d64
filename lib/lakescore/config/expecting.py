"""What a score job expects of its input; a run whose input differs ends before it publishes."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from lakescore.config.strict import Strict
from lakescore.options import ExpectOptions


class RowCount(Strict):
    """How many rows a slice must have, as multiples of the median of the slices before it."""

    least: float | None = Field(
        default=None, ge=0, description="the smallest multiple, such as 0.5 for half as many"
    )
    most: float | None = Field(
        default=None, gt=0, description="the largest multiple, such as 2 for twice as many"
    )
    of_last: int = Field(
        default=7, ge=3, description="the number of earlier slices with rows that are counted"
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("give least, most or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least is {self.least}, but most is only {self.most}")
        return self


class Newest(Strict):
    """How old the newest value of a column may be when the run begins."""

    column: str = Field(min_length=1, description="column with dates or times (in UTC)")
    max_age_hours: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="the largest age of its newest value; a date counts from its end",
    )


class Expectations(Strict):
    """What the input must be like: its values, its nulls, its number of rows, its age."""

    values: dict[str, str] = Field(
        default={},
        description="by column, a rule for its values: between 0 and 120, in ('a', 'b'), >= 0, "
        "like 'N%', is not null, with and, or, not; a row that breaks a rule is quarantined, and "
        "counts for max_errors. A null breaks only is not null",
    )
    nulls: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default={}, description="by column, the largest share of nulls in a slice, such as 0.05"
    )
    rows: RowCount | None = Field(
        default=None, description="the number of rows of a slice, against the slices before it"
    )
    newest: Newest | None = Field(
        default=None, description="the age of the newest row of the whole input"
    )

    @field_validator("values")
    @classmethod
    def _check_rules(cls, values: dict[str, str]) -> dict[str, str]:
        from lakescore.rules import parse_rule  # noqa: PLC0415 - a parser that few jobs need

        for column, rule in values.items():
            try:
                parse_rule(column, rule)
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from None
        return values

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values workers look at."""
        return tuple(dict.fromkeys([*self.values, *self.nulls]))

    @property
    def options(self) -> ExpectOptions:
        """The expectations that are given."""
        rows, newest = self.rows or RowCount.model_construct(), self.newest
        return ExpectOptions(
            values=self.values,
            nulls=self.nulls,
            least_rows=rows.least,
            most_rows=rows.most,
            of_last=rows.of_last,
            newest=newest.column if newest else None,
            max_age_hours=newest.max_age_hours if newest else math.inf,
        )
