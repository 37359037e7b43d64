"""Errors: what the modules of logs and of tables raise."""

from __future__ import annotations

from lakescore.errors import ConflictError


class AnotherRunWon(ConflictError):
    """Another run wrote the same slice first."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"another run wrote {what} of {address} while this run scored it; "
            "this run did not write it"
        )


class NotEligible(Exception):
    """The reason why Spark has to read or write."""
