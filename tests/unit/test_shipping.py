from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyspark import cloudpickle

from lakescore import comparing
from lakescore.comparing import bootstrapping, gathering, matching, ordering
from lakescore.comparing.matching import Columns

if TYPE_CHECKING:
    from lakescore.comparing.passes import Function

WITHOUT_LAKESCORE = """
import pickle, sys
sys.modules["lakescore"] = None  # an import of it fails
function, batch = pickle.load(sys.stdin.buffer)
print([rows.to_pylist() for rows in function(iter([batch]))])
"""

SPEC = gathering.Spec(
    task="scores",
    versions=1,
    slices=0,
    draws=bootstrapping.draws(2, 0),
    classes=("0", "1"),
    of_interest=(1,),
)
GATHERED = pa.RecordBatch.from_pydict(
    {"bucket": [3, 4], "label": ["0", "1"], "weight": [1.0, 1.0], "v0": [[0.5, 0.5], [0.2, 0.8]]}
)
GROUPS = (ordering.Group(version=0, scope="common", by=-1, value=None, class_=1),)
LAYOUT = ordering.Layout(slices=0, versions=1, classes=("0", "1"))
COLUMNS = Columns(task="labels", classes=(), label=0, versions=(1,), fields=(None,))
MATCHED = pa.RecordBatch.from_pydict({comparing.LABEL: ["a", "b"], "predicted": ["a", "a"]})


@pytest.mark.parametrize(
    ("function", "batch"),
    [
        (gathering.gather(SPEC), GATHERED),
        (ordering.expand(LAYOUT, GROUPS), GATHERED),
        (matching.match(COLUMNS, 0), MATCHED),
    ],
    ids=["gather", "expand", "match"],
)
def test_the_functions_of_a_comparison_run_where_lakescore_is_not_installed(
    function: Function, batch: pa.RecordBatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LAKESCORE],
        input=cloudpickle.dumps((function, batch)),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    here = [rows.to_pylist() for rows in function(iter([batch]))]
    assert done.stdout.decode().strip() == str(here)
