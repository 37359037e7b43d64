"""Names of columns: those that Delta accepts, and those that collide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakescore.provenance import COLUMNS
from lakescore.signature.errors import ColumnsCollide, ColumnsUnfit

if TYPE_CHECKING:
    from collections.abc import Sequence

UNFIT = r"[ ,;{}()\n\t=`]"
"""The pattern of characters that Delta refuses in a column's name, and of Spark's quote for names.

Python, Java and Arrow read it alike."""


def check_names(
    address: str,
    target: str,
    names: Sequence[str],
    read: Sequence[str] = (),
    beside: Sequence[str] = COLUMNS,
) -> None:
    """Check that the columns *names* can be written beside the lineage of a prediction.

    Args:
        address: the table that is read, for messages.
        target: the table that is written: output or quarantine.
        names: its columns before the lineage.
        read: columns that are only read.
        beside: the columns of the lineage.

    Raises:
        ColumnsCollide: two columns have the same name.
        ColumnsUnfit: a column has a name that cannot be used.
    """
    collisions = repeated_names([*names, *beside])
    if collisions:
        raise ColumnsCollide(target, collisions)
    quoted = [name for name in dict.fromkeys([*names, *read]) if "`" in name]
    if quoted:
        raise ColumnsUnfit(address, quoted, "a name cannot hold a backtick")


def fit_name(name: object) -> str:
    """Return *name* in a form that Delta accepts for a column."""
    return re.sub(UNFIT, "_", str(name))


def plain_name(name: str) -> str:
    """Return a name without case and underscores: columns that differ by these are no strangers."""
    return name.replace("_", "").lower()


def repeated_names(names: Sequence[str]) -> list[str]:
    """Return the names that occur twice. Spark's columns ignore upper and lower case."""
    lowered = [name.lower() for name in names]
    return [name for name in dict.fromkeys(names) if lowered.count(name.lower()) > 1]
