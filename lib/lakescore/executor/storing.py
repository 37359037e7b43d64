"""Storing: files on the machine's own disks, or in an object store, for pyarrow to read and write.

pyarrow's own file systems, so that executors need no library besides.
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
    """Where the files of a table lie."""

    kind: StoreKind = "local"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of pyarrow's file system: they may hold credentials, so nothing shows them."""

    @property
    def system(self) -> Any:
        """The file system, one a process; none of the machine's own disks."""
        if self.kind == "local":
            return None
        systems = shelf().setdefault("systems", {})
        # A fork must not share the connections, nor the threads, of the process it came from.
        key = (os.getpid(), self.kind, *sorted(self.options.items()))
        if key not in systems:
            from pyarrow import fs  # noqa: PLC0415 - half a second, where a store is used

            makers = {
                "s3": "S3FileSystem",
                "abfs": "AzureFileSystem",
                "gs": "GcsFileSystem",
            }
            systems[key] = getattr(fs, makers[self.kind])(**self.options)
        return systems[key]

    def open(self, path: str) -> pq.ParquetFile:
        """Open a Parquet file: a path of the machine's disks, or of the store from its bucket."""
        options: dict[str, Any] = {"coerce_int96_timestamp_unit": "us"}
        if self.kind == "local":
            return pq.ParquetFile(path, memory_map=True, **options)
        # What is asked of the store comes in few requests, the next one while the model predicts.
        return pq.ParquetFile(path, filesystem=self.system, pre_buffer=True, **options)

    def size(self, path: str) -> int | None:
        """Return the bytes of a file, or none where there is no such file."""
        if self.kind == "local":
            return os.path.getsize(path) if os.path.isfile(path) else None  # noqa: PTH113, PTH202
        info = self.system.get_file_info(path)
        return int(info.size) if info.is_file else None

    def remove(self, path: str) -> None:
        """Remove a file, if that can be."""
        with suppress(OSError):
            if self.kind == "local":
                os.unlink(path)  # noqa: PTH108
            else:
                self.system.delete_file(path)


LOCAL = Store()
