"""A task holds the rows of one batch, whatever the number of batches."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakescore import executor

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS, ROWS = 8, 100_000
BATCH = 8 * COLUMNS * ROWS
"""The bytes of a batch."""
TASK = """
import pickle, sys
import pyarrow as pa
from lakescore import executor

scan, failing = pickle.load(sys.stdin.buffer)
task = executor.predictor([], kept=1, scan=scan, failing=failing)
rows = sum(batch.num_rows for batch in task(iter([pa.RecordBatch.from_pydict({"id": [0]})])))
print(rows, pa.default_memory_pool().max_memory())
"""
"""A process of its own: no other test counts in the most memory that Arrow had."""


def one_task(folder: Path, files: int) -> executor.Scan:
    """Return the scan of one task that reads *files* files, a batch each."""
    numbers = pa.array(np.random.default_rng(0).integers(0, 2**62, ROWS))
    names = [f"c{n}" for n in range(COLUMNS)]
    paths = [folder / f"{n}-of-{files}.parquet" for n in range(files)]
    for path in paths:
        pq.write_table(pa.table(dict.fromkeys(names, numbers)), path, use_dictionary=False)
    kind = numbers.type
    columns = [
        executor.Column(stored=name, partition=False, read=kind, give=kind, widens=False)
        for name in names
    ]
    pieces = [
        executor.Piece(
            path=str(path),
            row_group=0,
            skip=0,
            rows=ROWS,
            deleted=None,
            values=(None,) * COLUMNS,
            at_once=ROWS,
        )
        for path in paths
    ]
    return executor.Scan(columns=tuple(columns), tasks=(tuple(pieces),), only=None)


def run(scan: executor.Scan, failing: executor.Failing) -> tuple[int, int]:
    """Run the task; return the rows that it gives, and the most bytes that Arrow had meanwhile."""
    done = subprocess.run(
        [sys.executable, "-c", TASK],
        input=pickle.dumps((scan, failing)),
        stdout=subprocess.PIPE,
        check=True,
    )
    rows, most = map(int, done.stdout.split())
    return rows, most


@pytest.mark.parametrize("failing", ["null", "aside"])
def test_a_task_frees_a_batch_before_it_reads_the_next(
    tmp_path: Path, failing: executor.Failing
) -> None:
    rows, of_one = run(one_task(tmp_path, 1), failing)
    assert rows == ROWS
    assert of_one >= BATCH

    rows, of_several = run(one_task(tmp_path, 4), failing)
    assert rows == 4 * ROWS
    assert of_several < of_one + BATCH / 2
