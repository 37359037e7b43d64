"""Storing: pyarrow reads and writes files on the machine's disks or in an object store.

It uses pyarrow's file systems, so that executors need no other library.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq

from .keeping import shelf

if TYPE_CHECKING:
    from collections.abc import Mapping

StoreKind = Literal["local", "s3", "abfs", "gs"]


@dataclass(frozen=True, kw_only=True)
class Store:
    """The place of the files of a table."""

    kind: StoreKind = "local"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The options of pyarrow's file system; they may hold credentials, so nothing shows them."""

    @property
    def system(self) -> Any:
        """The file system, one a process; None for the machine's disks."""
        if self.kind == "local":
            return None
        systems = shelf().setdefault("systems", {})
        # A fork must not share the connections or the threads of its parent process.
        key = (os.getpid(), self.kind, *sorted(self.options.items()))
        if key not in systems:
            from pyarrow import fs  # noqa: PLC0415 - half a second, only for a store

            makers = {
                "s3": "S3FileSystem",
                "abfs": "AzureFileSystem",
                "gs": "GcsFileSystem",
            }
            systems[key] = getattr(fs, makers[self.kind])(**self.options)
        return systems[key]

    def open(self, path: str) -> pq.ParquetFile:
        """Open a Parquet file: a path on the machine's disks, or in the store with its bucket."""
        options: dict[str, Any] = {"coerce_int96_timestamp_unit": "us"}
        if self.kind == "local":
            return pq.ParquetFile(path, memory_map=True, **options)
        # The store gets few requests, and answers the next one while the model predicts.
        return pq.ParquetFile(path, filesystem=self.system, pre_buffer=True, **options)

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, or None if there is no such file."""
        if self.kind == "local":
            return os.path.getsize(path) if os.path.isfile(path) else None  # noqa: PTH113, PTH202
        info = self.system.get_file_info(path)
        return int(info.size) if info.is_file else None

    def remove(self, path: str) -> None:
        """Remove a file, and ignore an error."""
        with suppress(OSError):
            if self.kind == "local":
                os.unlink(path)  # noqa: PTH108
            else:
                self.system.delete_file(path)


LOCAL = Store()
