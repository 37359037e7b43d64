"""The errors of a version and a table that cannot be put together without a person's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import ColumnsMissing, ConfigError, InputContractError
from lakescore.signature import CaseDiffers, FeatureRequired, FeaturesMiscounted, TypesDiffer
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence


class ColumnsOpen(InputContractError):
    """Features have no column that is certain."""

    def __init__(
        self, address: str, uri: str, problems: Sequence[str], advice: Sequence[str]
    ) -> None:
        super().__init__(
            f"{address} does not say which columns {uri} reads: {'; '.join(problems)}; give "
            f"{' '.join(advice)}"
        )


class KeysOpen(ConfigError):
    """Nobody said which columns identify a row of the input."""

    def __init__(self, address: str, reason: str, columns: Sequence[str]) -> None:
        super().__init__(
            f"{address} does not say which column identifies a row: {reason}; give --id COLUMN, "
            f"once for each column of the key; there are: {listed(columns)}"
        )


class NameNotRead(ConfigError):
    """The input is a name in a catalog."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is a name in a catalog, which only Spark can read; give the folder or URI of "
            f"the table, such as lake/departures or ./{name} (DESCRIBE DETAIL {name} in Spark "
            "shows it)"
        )


class JobFileExists(ConfigError):
    """A file exists at the place for the job's file."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists already and was not changed; name another file: --write")


UNFIT = (CaseDiffers, ColumnsMissing, FeatureRequired, FeaturesMiscounted, TypesDiffer)
"""The errors of a choice that another choice can put right."""
