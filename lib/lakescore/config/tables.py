"""The tables that a job reads and writes, by path or by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from lakescore.config.strict import Strict
from lakescore.home import home

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NAME = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,2}$"


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


def table_keys(text: str) -> dict[str, str]:
    """Return the keys of a table that a person typed: a text with a `/` is a path or URI."""
    return {"path" if "/" in text else "table": text}


class InputTable(Table):
    """A Delta table at one version."""

    version: int | None = Field(
        default=None, ge=0, description="version of the table to read; default: the latest"
    )
