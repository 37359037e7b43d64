"""Keeping: what a worker process keeps from one task to the next.

The package is unpickled anew for each task, so that its own modules keep nothing.
"""

from __future__ import annotations

import sys
import types
from typing import Any

_NAME = "_lakescore_kept"


def shelf() -> dict[str, Any]:
    """Return what this process keeps, by name."""
    return vars(sys.modules.setdefault(_NAME, types.ModuleType(_NAME)))


def forget() -> None:
    """Keep nothing of the process that this one was forked from."""
    sys.modules.pop(_NAME, None)


def is_used() -> bool:
    """Tell whether this process has used a model."""
    return not {"models", "processes"}.isdisjoint(shelf())


def count(name: str, more: float) -> None:
    """Add *more* to the count *name* of this process."""
    shelf()[name] = counted(name) + more


def counted(name: str) -> float:
    """Return the count *name*: loads, aligned rows, or CPU seconds of models' own processes."""
    value: float = shelf().get(name, 0)
    return value
