"""The tables that the page can be asked about: folders below one folder, and nothing else."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lakescore.config.tables import Table, table_keys
from lakescore.errors import InputContractError
from lakescore.home import home

_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_LOG = "_delta_log"


class TableNotServed(InputContractError):
    """The page cannot be asked about this table; perhaps it does not exist."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(
            f"{name!r} is no table that this server shows; give the path of its folder below "
            f"{root}, such as tables/departures, without '..', parts such as %20, and links that "
            "lead out"
        )


class Tables:
    """The tables below one folder.

    Args:
        root: the folder; None for `LAKESCORE_HOME`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._given = None if root is None else root.expanduser().resolve()
        self._root = self._given or home()

    def find(self, name: str) -> str:
        """Return the table *name* as a job's file names it.

        The answer for a table that is not there and for one that is elsewhere is the same.

        Raises:
            TableNotServed: there is no such table below the folder.
        """
        text = self.name(name)
        try:
            root = self._root.resolve(strict=True)
            folder = Path(_address(text)).resolve(strict=True)
            if not (folder.is_relative_to(root) and _has_plain_log(folder / _LOG)):
                raise TableNotServed(name, self._root)
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
            raise TableNotServed(name, self._root) from None
        return text

    def name(self, name: str) -> str:
        """Return the table *name* as a job's file names it, whether or not it exists.

        Raises:
            TableNotServed: the name leads out of the folder.
        """
        if self._given is None:
            text = name if "/" in name else f"./{name}"
        else:
            text = f"{self._given}/{name}"
        path = Path(_address(text))
        is_below = path.is_relative_to(self._root) and path != self._root
        if not name or ".." in path.parts or not is_below or _ENCODED.search(str(path)):
            raise TableNotServed(name, self._root)
        return text

    def address(self, name: str) -> str:
        """Return the absolute path of the table *name*, whether or not it exists.

        Raises:
            TableNotServed: the name leads out of the folder.
        """
        return _address(self.name(name))


def _address(text: str) -> str:
    """Return the address of the table that a job's file names with *text*."""
    return Table(**table_keys(text)).address


def _has_plain_log(log: Path) -> bool:
    """Return whether *log* is a table's log of files and folders, without links and devices."""
    if log.is_symlink() or not log.is_dir():
        return False
    for folder, _, _ in os.walk(log, onerror=_raise_error):
        with os.scandir(folder) as entries:
            if not all(
                entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
                for entry in entries
            ):
                return False
    return True


def _raise_error(error: OSError) -> None:
    raise error
