"""Memory: how much of it processes use, and what they no longer use."""

from __future__ import annotations

import ctypes
import gc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIBIBYTE = 1024


def proportional_bytes(pid: int) -> int | None:
    """Return the bytes of memory of the process *pid*, or None if the system does not tell.

    A page that n processes share counts one n-th for each of them: the proportional set size of
    Linux, see proc_pid_smaps(5).
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123
            sizes = [line.split()[1] for line in file if line.startswith("Pss:")]
    except OSError:  # another system, or the process has ended
        return None
    return int(sizes[0]) * _KIBIBYTE if sizes else None


def give_back() -> None:
    """Give unused memory back to the system.

    Loading a forest leaves as much unused memory as the forest needs: the pickle's copy.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # only the GNU C library has it
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def without_collector() -> Iterator[None]:
    """Import large libraries without the garbage collector, in a process with one thread.

    Imports make many objects and hardly any garbage. To look for it again and again takes a fifth
    of the time of MLflow's import.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
