"""Errors: what the modules of tables raise."""

from __future__ import annotations

from lakescore.errors import InputContractError


class SchemaDrift(InputContractError):
    """The output table has other columns than the run writes."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"the output table {address} does not accept these rows: {reason}; name another "
            "output, or alter that table"
        )


class TableAppendOnly(InputContractError):
    """Rows of an append-only table cannot be replaced."""

    def __init__(self, address: str, *, default: bool) -> None:
        cause = (
            "spark.databricks.delta.properties.defaults.appendOnly makes new tables append-only"
            if default
            else "it is append-only (delta.appendOnly)"
        )
        super().__init__(
            f"rows of {address} cannot be replaced: {cause}; nothing was written there; for "
            "predictions set write_mode: append; otherwise unset delta.appendOnly, or name another "
            "table"
        )
