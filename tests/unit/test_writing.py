"""Files that a task writes for many parts: each row once, in its own part, in its order."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakescore.executor import Misplaced, OutputColumn, Sink, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS = (
    OutputColumn(name="id", kind=pa.int64(), position=0, bounded=True),
    OutputColumn(name="text", kind=pa.string(), position=2),
    OutputColumn(name="run", kind=pa.string(), position=None),
)
PARTS = 600


def sink_of(folder: Path, parts: list[str]) -> Sink:
    runs = {part: {"run": f"run of {part}"} for part in parts}
    return Sink(folder=str(folder), columns=COLUMNS, parts=runs, by=1, compression="snappy")


def batches_of(rows: pd.DataFrame, at_once: int) -> Iterator[pa.RecordBatch]:
    schema = pa.schema({"id": pa.int64(), "part": pa.string(), "text": pa.string()})
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        yield pa.RecordBatch.from_pandas(part, schema, preserve_index=False)


@pytest.fixture
def few_open_files() -> Iterator[None]:
    """Let this process have fewer files open than there are parts."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (PARTS // 2 + 150, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("few_open_files")
@pytest.mark.parametrize("held", [2**28, 2**14], ids=["memory for all", "memory for a part of it"])
def test_rows_of_many_parts_that_come_mixed_are_written_once_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(writing, "_BYTES_HELD", held)
    rows = pd.DataFrame({"id": range(7 * PARTS)})
    rows["part"] = [f"p{7 * n % PARTS}" for n in rows["id"]]
    rows["text"] = [None if n % 5 == 0 else f"text {n}" for n in rows["id"]]
    sink = sink_of(tmp_path, [f"p{n}" for n in range(PARTS)])
    files = pa.Table.from_batches(writing.written(sink, batches_of(rows, 1_000))).to_pandas()
    assert (len(files) > PARTS) == (held < 2**20)  # less memory, more files
    written: dict[str, list[pd.DataFrame]] = {}
    for file in files.itertuples():
        table = pq.ParquetFile(tmp_path / file.path).read().to_pandas()
        assert len(table) == file.rows == int(json.loads(file.statistics)["numRecords"])
        assert json.loads(file.statistics)["minValues"] == {"id": table["id"].min()}
        assert json.loads(file.statistics)["maxValues"] == {"id": table["id"].max()}
        assert set(table["run"]) == {f"run of {file.part}"}
        written.setdefault(file.part, []).append(table[["id", "text"]].astype(object))
    assert len(written) == PARTS
    for name, tables in written.items():
        expected = rows.loc[rows["part"] == name, ["id", "text"]].astype(object)
        pd.testing.assert_frame_equal(
            pd.concat(tables, ignore_index=True), expected.reset_index(drop=True)
        )
    assert len(list(tmp_path.iterdir())) == len(files)


@pytest.mark.parametrize("name", ["c", None], ids=["of another part", "of no part"])
def test_a_row_of_no_known_part_leaves_no_file(tmp_path: Path, name: str | None) -> None:
    rows = pd.DataFrame({"id": [1, 2, 3], "part": ["a", "b", name], "text": ["x", "y", "z"]})
    with pytest.raises(Misplaced):
        list(writing.written(sink_of(tmp_path, ["a", "b"]), batches_of(rows, 2)))
    assert list(tmp_path.iterdir()) == []
