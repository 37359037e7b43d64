"""The log of a table, read and committed to without Spark."""

from __future__ import annotations

import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from lakescore.logs import MADE, AnotherRunWon, Log, NewFile, NotEligible, changes

if TYPE_CHECKING:
    from collections.abc import Callable

BY = ["model", "slice"]
SCHEMA = pa.schema([("id", pa.int64()), ("model", pa.string()), ("slice", pa.string())])
SCHEMA_JSON = {
    "type": "struct",
    "fields": [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in (("id", "double"), ("model", "string"), ("slice", "string"))
    ],
}


@pytest.fixture(params=["plain", "a b%20c"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Make an empty table as we do; delta-rs would look for the second at `a b c`."""
    folder = tmp_path / request.param
    facts = {"userMetadata": json.dumps(MADE), "operationMetrics": {"numOutputRows": "0"}}
    plain = tmp_path / "made"
    DeltaTable.create(
        plain.as_uri(),
        schema=SCHEMA,
        partition_by=BY,
        commit_properties=CommitProperties(custom_metadata=facts),
    )
    plain.rename(folder)
    return str(folder)


def file(table: str, name: str, ids: list[int], part: str) -> NewFile:
    """Write a file as workers do."""
    path = Path(table, f"{name}.parquet")
    pq.write_table(pa.table({"id": ids}), path)
    statistics = json.dumps({"numRecords": len(ids)})
    partition = {"model": "m", "slice": part}
    return NewFile(path.name, partition, len(ids), path.stat().st_size, statistics)


def publish(log: Log, name: str, ids: list[int], part: str, **how: Any) -> int:
    where = {"model": ["m"], "slice": [part]}
    given = {"append": False, "metadata": json.dumps({"by": name}), "what": part, **how}
    return log.commit([file(log.address, name, ids, part)], where, **given)


def rows(table: str) -> list[tuple[int, str]]:
    """Return what another reader sees: pyarrow, by the log as delta-rs tells it."""
    log = Log(table)
    records = log.dataset().to_table(["id", "slice"]).to_pylist()
    return sorted((row["id"], row["slice"]) for row in records)


def test_files_take_the_place_of_those_of_their_slice_and_of_no_other(table: str) -> None:
    assert publish(Log(table), "one", [1, 2], "a' /ü%") == 1
    assert publish(Log(table), "two", [3], "b") == 2
    assert publish(Log(table), "three", [4], "a' /ü%") == 3
    assert rows(table) == [(3, "b"), (4, "a' /ü%")]
    assert Log(table).commits()[0] == (3, {"by": "three"})
    assert publish(Log(table), "four", [5], "b", append=True) == 4
    assert rows(table) == [(3, "b"), (4, "a' /ü%"), (5, "b")]


def test_no_thread_that_reads_ahead_calls_python(table: str) -> None:
    # Where one does while Python ends, the process aborts.
    publish(Log(table), "one", [1], "a")
    assert {file.filesystem.type_name for file in Log(table).dataset().get_fragments()} == {"local"}


@pytest.mark.parametrize("append", [True, False])
def test_of_two_that_looked_at_the_same_slice_the_first_wins(table: str, *, append: bool) -> None:
    first, second = Log(table), Log(table)
    publish(first, "first", [1], "a", append=append)
    with pytest.raises(AnotherRunWon):
        publish(second, "second", [2], "a", append=append)
    assert rows(table) == [(1, "a")]


def test_other_slices_and_compaction_are_in_nobodys_way(table: str) -> None:
    publish(Log(table), "one", [1], "a")
    publish(Log(table), "two", [2], "a", append=True)
    log = Log(table)
    publish(Log(table), "other", [3], "b")
    if "%" not in table:  # delta-rs itself would not find the other one
        assert DeltaTable(table).optimize.compact()["numFilesRemoved"] == 2
    publish(log, "mine", [4], "a")
    assert rows(table) == [(3, "b"), (4, "a")]


def test_a_table_that_changed_its_form_is_another(table: str) -> None:
    log = Log(table)
    changed = Log(table).set_properties({"delta.logRetentionDuration": "interval 1 day"}, what="a")
    assert changed.version == 1
    with pytest.raises(AnotherRunWon):
        publish(log, "mine", [1], "a")


def test_a_commit_whose_answer_is_lost_is_found_again(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = DeltaTable.create_write_transaction

    def lost(self: DeltaTable, *given: Any, **more: Any) -> None:
        make(self, *given, **more)
        raise DeltaError("connection reset")

    log = Log(table)
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", lost)
        assert publish(log, "mine", [1], "a") == 1
    assert rows(table) == [(1, "a")]


def test_a_commit_that_failed_is_an_error(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise DeltaError("no room")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", refused)
    with pytest.raises(DeltaError, match="no room"):
        publish(Log(table), "mine", [1], "a")
    assert rows(table) == []


def test_of_four_writers_at_once_one_wins_each_round(table: str) -> None:
    for number in range(5):
        together = threading.Barrier(4, timeout=60)

        def write(writer: int, number: int = number, together: Any = together) -> bool:
            log = Log(table)
            together.wait()
            try:
                publish(log, f"{number}-{writer}", [writer] * 3, "a")
            except AnotherRunWon:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = [n for n, done in enumerate(pool.map(write, range(4))) if done]
        assert len(won) == 1
        assert rows(table) == [(won[0], "a")] * 3


def test_a_table_to_which_nobody_published_takes_other_columns(table: str) -> None:
    log, other = Log(table), Log(table)
    assert not log.is_published()
    new = file(table, "one", [1], "a")
    given: dict[str, Any] = {"metadata": "{}", "what": "a"}
    properties = {"delta.dataSkippingStatsColumns": "id"}
    assert log.renew([new], SCHEMA_JSON, BY, properties, **given) == 2
    renewed = Log(table)
    assert renewed.schema["fields"][0]["type"] == "double"
    assert renewed.properties == properties
    assert renewed.is_published()
    with pytest.raises(AnotherRunWon):
        other.renew([new], SCHEMA_JSON, BY, properties, **given)


def test_a_table_is_published_once_anybody_had_a_hand_in_it(tmp_path: Path) -> None:
    by_hand = str(tmp_path / "by hand")
    DeltaTable.create(Path(by_hand).as_uri(), schema=SCHEMA, partition_by=BY)
    assert Log(by_hand).is_published()


ROWS = pa.table(
    {
        "number": pa.array([1, 5, 9], pa.int32()),
        "day": [dt.date(2013, 12, day) for day in (1, 2, 3)],
        "word": ["a", "b", "ü"],
        "part": ["x", "y", None],
    }
)


@pytest.fixture
def three_files(tmp_path: Path) -> Log:
    path = str(tmp_path / "three")
    for n in range(3):
        write_deltalake(path, ROWS.slice(n, 1), mode="append", partition_by=["part"])
    return Log(path)


@pytest.mark.parametrize(
    ("among", "files"),
    [
        ({}, 3),
        ({"number": (5, 6)}, 1),
        ({"number": (2, 3, 4)}, 0),
        ({"day": (dt.date(2013, 12, 1), dt.date(2013, 12, 3))}, 2),
        ({"word": ("a",)}, 2),  # writers differ in bounds beyond ASCII, such as those of `ü`
        ({"part": ("x", "z")}, 1),
        ({"part": ("x",), "number": (5,)}, 0),
    ],
)
def test_files_that_cannot_hold_a_value_are_left_out(
    three_files: Log, among: dict[str, Any], files: int
) -> None:
    assert len(three_files.files(among)) == files


@pytest.mark.parametrize(
    "among",
    [
        {},
        {"part": ()},
        {"part": ("x", None)},
        {"number": (), "day": (dt.date(2013, 12, 1),)},
        {"word": ("a",)},
    ],
)
def test_a_table_without_a_row_has_no_file(
    tmp_path: Path, among: dict[str, tuple[Any, ...]]
) -> None:
    path = str(tmp_path / "none")
    write_deltalake(path, ROWS, partition_by=["part"])
    DeltaTable(path).delete()
    assert Log(path).files(among) == []
    write_deltalake(str(tmp_path / "made"), ROWS.schema.empty_table(), partition_by=["part"])
    assert Log(str(tmp_path / "made")).files(among) == []


def test_what_the_log_says_of_a_file_is_typed(three_files: Log) -> None:
    files = sorted(three_files.files(), key=lambda file: str(file.partition["part"]))
    assert [file.partition for file in files] == [{"part": None}, {"part": "x"}, {"part": "y"}]
    assert [(file.rows, list(file.deleted)) for file in files] == [(1, [])] * 3
    assert all(Path(file.path).stat().st_size == file.size for file in files)


def test_changes_are_told_as_far_as_the_log_holds_them(three_files: Log) -> None:
    changed = changes(three_files.folder, 0, 2)
    assert changed is not None
    assert [(change.version, change.added, change.partition) for change in changed] == [
        (1, True, {"part": "y"}),
        (2, True, {"part": None}),
    ]
    Path(three_files.address, "_delta_log", f"{1:020}.json").unlink()
    assert changes(three_files.folder, 0, 2) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.alter.add_constraint({"few": "id < 9"}), "delta.constraints.few"),
        (lambda t: t.alter.set_table_properties({"delta.enableChangeDataFeed": "true"}), "Change"),
        (lambda t: t.alter.set_table_properties({"delta.minWriterVersion": "6"}), "is 6|uses"),
    ],
)
def test_what_a_table_asks_of_its_writers_is_declined(
    tmp_path: Path, change: Callable[[DeltaTable], object], reason: str
) -> None:
    path = str(tmp_path / "asks")
    change(DeltaTable.create(path, schema=SCHEMA))
    with pytest.raises(NotEligible, match=reason):
        Log(path).check_writable()


def test_what_is_no_table_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Log(str(tmp_path / "nothing"))
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(FileNotFoundError):
        Log(str(tmp_path))
    with pytest.raises(NotEligible, match="only Spark reaches files on hdfs:"):
        Log("hdfs://somewhere/table")
