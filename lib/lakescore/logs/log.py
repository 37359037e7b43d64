"""Log: the log of a table at one version; what it says, and commits on top of it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakescore.logs.committing import commit, renew, set_properties
from lakescore.logs.errors import NotEligible
from lakescore.logs.files import list_files, newest_value, open_dataset
from lakescore.logs.history import has_published, said
from lakescore.logs.opening import decline_errors, open_table
from lakescore.logs.protocol import STORED, check_readable, check_writable
from lakescore.storage import folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyarrow.dataset import Dataset

    from lakescore.logs.files import File, NewFile
    from lakescore.storage import Setting


class Log:
    """The log of a table at one version.

    Args:
        address: the table's folder or URI, as Spark takes it.
        version: the table's version; the default is the newest.
        setting: Spark's properties.

    Raises:
        NotEligible: only Spark reaches the table or reads its log.
        FileNotFoundError: the table or its version does not exist.
        StorageUnavailable, StorageRefused, BucketMissing: the object store raised an error.
    """

    def __init__(
        self, address: str, version: int | None = None, setting: Setting | None = None
    ) -> None:
        place = folder(address, setting)
        if place is None:
            scheme = address.partition(":")[0]
            raise NotEligible(f"only Spark reaches files on {scheme}:")
        self.address, self.folder, self.setting = address, place, setting
        self.table, self._links = open_table(place, address, version)

    def reopen(self, version: int | None = None) -> Log:
        """Return the log of the table at *version*, or at its newest version."""
        return Log(self.address, version, self.setting)

    @property
    def version(self) -> int:
        """The table's version."""
        return int(self.table.version())

    @cached_property
    def metadata(self) -> Any:  # noqa: ANN401 - a class of delta-rs
        """Delta's metadata: id, partition_columns, configuration."""
        return self.table.metadata()

    @property
    def table_id(self) -> str:
        """Delta's id of the table; a new table at the same address has another id."""
        return str(self.metadata.id)

    @property
    def properties(self) -> dict[str, str]:
        """The table's properties."""
        return dict(self.metadata.configuration)

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The partition columns of the table."""
        return tuple(self.metadata.partition_columns)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The table's columns, as Delta and Spark write them in JSON."""
        return dict(json.loads(self.table.schema().to_json()))

    @cached_property
    def stored(self) -> dict[str, str]:
        """The name of each column in the files and the log."""
        return {f["name"]: f["metadata"].get(STORED, f["name"]) for f in self.schema["fields"]}

    @property
    def widens(self) -> bool:
        """Whether older files can have narrower types than the table has now."""
        return any("typeWidening" in feature for feature in self.reader_features)

    @property
    def reader_features(self) -> list[str]:
        """The features of Delta's protocol that readers of the table need."""
        return list(self.table.protocol().reader_features or [])

    @property
    def writer_features(self) -> list[str]:
        """The features of Delta's protocol that writers of the table need."""
        return list(self.table.protocol().writer_features or [])

    def check_readable(self) -> None:
        """Check that files are read here as Spark reads them.

        Raises:
            NotEligible: the files could be read differently.
        """
        check_readable(self)

    def check_writable(self) -> None:
        """Check that the table demands nothing of new files that is not done here.

        Raises:
            NotEligible: the table demands more.
        """
        check_writable(self)

    def files(self, among: Mapping[str, Sequence[Any]] | None = None) -> list[File]:
        """Return the files that can have rows with one of the values *among*, for each column.

        Raises:
            NotEligible: the log has no row counts of these files, or delta-rs does not read the log
                as Spark does.
        """
        self.check_readable()
        return list_files(self, among or {})

    def newest(self, column: str) -> Any:  # noqa: ANN401 - a value of the column's type
        """Return the largest value of a *column* of dates or times in all rows; None without any.

        Raises:
            NotEligible: the log does not have the bounds of all files, or rows are deleted.
        """
        self.check_readable()
        return newest_value(self, column)

    def dataset(self) -> Dataset:
        """Return the rows as a dataset that can be read while this log object exists.

        Reads skip no file because of its file statistics, since some writers record wrong ones:
        Spark for texts that are not UTF-8, and none of them counts NaN.

        Raises:
            NotEligible: delta-rs does not read the table.
        """
        return open_dataset(self)

    def commits(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the versions of commits with their metadata in `userMetadata`, the newest first.

        Only commits that the log still has. Other writers can put anything into `userMetadata`;
        commits without a JSON object there are left out.
        """
        versions = [(int(c["version"]), said(c.get("userMetadata"))) for c in self.history()]
        return [(version, metadata) for version, metadata in versions if metadata is not None]

    def history(self) -> list[dict[str, Any]]:
        """Return the commits that the log still has, as delta-rs describes them."""
        with decline_errors(self.address):
            return self.table.history()

    def is_published(self) -> bool:
        """Return whether anything was published to the table.

        Nothing was published if lakescore made the table, and every later commit is a commit of
        lakescore without rows. Only the newest version gives a reliable answer: if it has nothing
        published, no version before it has.
        """
        with decline_errors(self.address):
            if self.table.get_add_actions().num_rows:
                return True
        return has_published(self.history())

    def commit(
        self,
        files: Sequence[NewFile],
        where: Mapping[str, Sequence[str]],
        *,
        append: bool,
        metadata: str,
        what: str,
    ) -> int:
        """Add *files* to the table in one commit; they replace the files that match *where*.

        Args:
            files: the files that workers wrote.
            where: partition columns of the table, each with the values that match.
            append: keep the existing files.
            metadata: the commit's `userMetadata`.
            what: the name of the written rows, for messages.

        Returns:
            The table's version after the commit.

        Raises:
            AnotherRunWon: another commit to the same rows, or to the table's form, came first; this
                commit changed nothing.
        """
        return commit(self, files, where, append=append, metadata=metadata, what=what)

    def renew(  # noqa: PLR0913 - all but the first four by name
        self,
        files: Sequence[NewFile],
        schema: Mapping[str, Any],
        partition_by: Sequence[str],
        properties: Mapping[str, str],
        *,
        metadata: str,
        what: str,
    ) -> int:
        """Give the empty table other columns, and add *files* to it.

        Any other commit in the meantime is a conflict.

        Args:
            files: the files that workers wrote.
            schema: the columns, as Spark writes them in JSON.
            partition_by: the partition columns.
            properties: properties to add to those of the table.
            metadata: the commit's `userMetadata`.
            what: the name of the written rows, for messages.

        Returns:
            The table's version after the commit.

        Raises:
            AnotherRunWon: another commit came first; *files* are not in the table.
        """
        return renew(self, files, schema, partition_by, properties, metadata=metadata, what=what)

    def set_properties(self, properties: Mapping[str, str], *, what: str) -> Log:
        """Set *properties* of the table, to which no run has published; return its new log.

        Raises:
            AnotherRunWon: another commit came first.
        """
        return set_properties(self, properties, what=what)
