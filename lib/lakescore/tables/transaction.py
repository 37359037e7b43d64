"""Transaction: rows for a table that nobody sees before the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pyspark.sql.types import StructType

from lakescore import executor, filing
from lakescore.arrow import collected, struct
from lakescore.filing import Form, Place
from lakescore.logs import AnotherRunWon, NotEligible
from lakescore.tables import spark_writer
from lakescore.tables.columns import check_columns, columns_json
from lakescore.tables.failures import explain_errors
from lakescore.tables.lookup import Table
from lakescore.tables.reading import added, changes
from lakescore.tables.sql import predicate
from lakescore.tables.staging import StagedRows
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from pyspark.sql import DataFrame

    from lakescore.logs import NewFile


class Transaction:
    """Rows for a table that nobody sees before `commit`.

    Either `write` takes all rows of a frame, or `add` takes files that workers wrote. VACUUM
    removes files that are never committed. If delta-rs cannot commit to the table, the rows wait in
    a staging table beside it, and Spark's writer publishes them; the end of the `with` statement
    removes the staging table.

    Raises:
        SchemaDrift: the table does not take these columns.
    """

    def __init__(  # noqa: PLR0913 - all but the first two by name
        self,
        table: Table,
        written: StructType,
        *,
        where: Mapping[str, Sequence[str]],
        metadata: str,
        append: bool,
        new_properties: Mapping[str, str] | None,
    ) -> None:
        self._table, self._where, self._metadata = table, where, metadata
        self._append, self._new_properties = append, new_properties
        self._what = listed(value for values in where.values() for value in values)
        self.written = written
        """The columns of the files."""
        self.how, self.reason = "direct", ""
        """The writer: the workers that scored (`direct`), workers to which Spark handed the rows
        (`handed over`), or Spark (`spark`); and why it was not the workers that scored."""
        self.said: list[bytes] = []
        """The messages of tasks about themselves."""
        self._files: list[NewFile] = []
        self._staged: StagedRows | None = None
        self._published: dict[str, int] = {"bytes_written": 0, "files_written": 0}
        if new_properties is None:
            check_columns(self.written, table.address, table.schema)

    @property
    def commits_itself(self) -> bool:
        """Whether delta-rs can commit files to the table, even if no rows were written yet."""
        if self._table.known is None:
            return False
        try:
            self._table.known.check_writable()
        except NotEligible:
            return False
        return True

    @property
    def form(self) -> Form:
        """The form of the table after the commit."""
        table = self._table
        if self._new_properties is None:
            return Form(table.schema, table.properties, table.partitioned_by)
        schema = StructType.fromJson(columns_json(self.written))
        return Form(schema, self._new_properties, tuple(self._where))

    def sink(
        self,
        places: Mapping[str, Place],
        parts: Mapping[str, Mapping[str, Any]],
        by: int | None,
    ) -> executor.Sink:
        """Return the sink into which workers write the rows; see `filing.sink`.

        Raises:
            NotEligible: Spark has to write.
        """
        if self._table.known is None:
            raise NotEligible(self._table.not_eligible)
        return filing.sink(
            self._table.runner,
            self._table.known,
            self.form,
            written=self.written,
            places=places,
            parts=parts,
            by=by,
        )

    def write(self, rows: DataFrame, writer: str = "direct") -> Self:
        """Write *rows* so that nobody sees them before the commit.

        Args:
            rows: rows with the columns of the files; a column `SAID`, if any, has the messages of
                tasks.
            writer: `spark` lets Spark write in any case.

        Raises:
            SchemaDrift: a row breaks a rule of the table, or does not match *where*.
            StorageFull, FilesUnwritten, FolderRefused: the storage has no room or no permission.
        """
        with explain_errors(self._table.address, self._what):
            reason = "asked for" if writer == "spark" else self._hand_over(rows)
            if reason is not None:
                self.how, self.reason = "spark", reason
                self._stage(rows)
        return self

    def _hand_over(self, rows: DataFrame) -> str | None:
        """Let Spark hand *rows* to workers that write the files; return why it cannot, or None."""
        names = rows.columns
        column = max(self._where, key=lambda name: len(self._where[name]))
        others = {name: values for name, values in self._where.items() if name != column}
        if any(len(values) != 1 for values in others.values()):
            return f"more than one of {listed(self._where)} has several values"
        constants = {name: values[0] for name, values in others.items()}
        parts = {value: {**constants, column: value} for value in self._where[column]}
        places = {name: Place(n) for n, name in enumerate(names)}
        try:
            sink = self.sink(places, parts, names.index(column))
        except NotEligible as not_eligible:
            return str(not_eligible)
        reports = rows.mapInArrow(executor.filer(sink), struct(executor.FILES))
        self.add(collected(reports).to_pylist(), sink)
        self.how = "handed over"
        return None

    def put(self, rows: pa.Table, parts: Mapping[str, Mapping[str, Any]], by: str | None) -> Self:
        """Write *rows* of this process so that nobody sees them before the commit.

        Args:
            rows: rows with the columns of the files, and the text *by* that identifies a part.
            parts: the values that all rows of a part share, by that text.
            by: the column of that text; None if there is only one part.

        Raises:
            NotEligible: Spark has to write.
            SchemaDrift, StorageFull, FilesUnwritten, FolderRefused: as in `write`.
        """
        names = rows.column_names
        places = {name: Place(n) for n, name in enumerate(names)}
        sink = self.sink(places, parts, None if by is None else names.index(by))
        with explain_errors(self._table.address, self._what):
            reports = list(executor.filer(sink)(iter(rows.to_batches())))
        self.add([row for batch in reports for row in batch.to_pylist()], sink)
        return self

    def _stage(self, rows: DataFrame) -> None:
        self._staged = StagedRows.write(rows, self._table)
        self.said += self._staged.said()

    def add(self, reports: Sequence[Mapping[str, Any]], sink: executor.Sink) -> None:
        """Add the files that tasks wrote into *sink* and reported, as rows of `executor.FILES`.

        Raises:
            WrittenFilesMissing: a file is missing, or its size is not the size that its task
                reported.
        """
        key = executor.SAID
        self.said += [bytes(row[key]) for row in reports if row[key] is not None]
        written = [row for row in reports if row[key] is None]
        self._files += filing.files(written, sink, self.form.partitioned_by)

    def counts(self, column: str) -> dict[str, int]:
        """Return the number of written rows by value of the partition column *column*."""
        if self._staged is not None:
            return self._staged.counts(column)
        counts: dict[str, int] = {}
        for file in self._files:
            value = file.partition[column]
            counts[value] = counts.get(value, 0) + file.rows
        return counts

    def facts(self) -> dict[str, Any]:
        """Return the facts of the write, for the receipt."""
        writer = {"write": self.how} | ({"write_reason": self.reason} if self.reason else {})
        if self._staged is not None:
            return self._published | writer
        size = sum(file.size for file in self._files)
        return {"bytes_written": size, "files_written": len(self._files), **writer}

    def commit(self) -> int:
        """Publish the rows in one commit; return the table's version.

        Raises:
            AnotherRunWon: another write to the same rows came first; this one changed nothing.
        """
        with explain_errors(self._table.address, self._what):
            if self._staged is not None:
                return self._publish(self._staged)
            log = self._table.known
            assert log is not None  # noqa: S101 - `sink` and `commits_itself` have checked the log
            if self._new_properties is not None:
                return log.renew(
                    self._files,
                    columns_json(self.written),
                    tuple(self._where),
                    self._new_properties,
                    metadata=self._metadata,
                    what=self._what,
                )
            return log.commit(
                self._files,
                self._where,
                append=self._append,
                metadata=self._metadata,
                what=self._what,
            )

    def _publish(self, staged: StagedRows) -> int:
        """Let Spark's writer publish the staged rows."""
        table, address, rows = self._table, self._table.address, staged.rows.count()
        self._check_untouched()
        if self._new_properties is not None:
            assert table.known is not None  # noqa: S101 - without a log, a table is published
            table.known.set_properties(self._new_properties, what=self._what)
            spark_writer.overwrite_table(staged.rows, address, list(self._where), self._metadata)
        elif self._append:
            spark_writer.append(staged.rows, address, self._where, self._metadata)
        else:
            spark_writer.overwrite(staged.rows, address, predicate(self._where), self._metadata)
        commit = spark_writer.find_commit(table.spark, address, self._metadata)
        if commit is None and rows == 0:  # then Delta makes no commit
            return Table.at(table.runner, address).version
        if commit is None:
            raise AnotherRunWon(address, self._what)
        version, published = commit
        if self._append and published < rows:  # the same run had appended the other rows before
            raise AnotherRunWon(address, self._what)
        self._published = added(table.runner, address, version)
        return version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._staged is not None:
            self._staged.remove()

    def _check_untouched(self) -> None:
        """Check that nobody wrote rows that match *where* since the transaction began."""
        now = Table.at(self._table.runner, self._table.address)
        since = changes(now, self._table.version)
        conditions = self._where.items()
        if now.table_id != self._table.table_id or columns_json(now.schema) != columns_json(
            self._table.schema
        ):
            raise AnotherRunWon(self._table.address, self._what)
        if since is None or any(
            all(change.partition.get(column) in values for column, values in conditions)
            for change in since
        ):
            raise AnotherRunWon(self._table.address, self._what)
