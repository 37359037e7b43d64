"""The base of all types of files: a key that they do not define is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """The content of a file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
