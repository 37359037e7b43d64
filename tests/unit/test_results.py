"""What a model gives is one value a row that fits its signature, or an error: never a guess."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakescore import executor
from lakescore.executor import Misshapen, Version
from lakescore.executor.results import as_column

ROWS = 4
DOUBLE, LONG, INT = pa.float64(), pa.int64(), pa.int32()
FLOAT, BOOL, TEXT = pa.float32(), pa.bool_(), pa.string()


def version(*kinds: pa.DataType, names: tuple[Any, ...] | None = None) -> Version:
    outputs = pa.schema([(f"o{n}", kind) for n, kind in enumerate(kinds)])
    return Version(
        uri="models:/any/1", key="", folder="", mode="pyfunc", pickled=None, features=(),
        outputs=outputs, names=names,
    )  # fmt: skip


def series(values: list[Any], index: Any = None, dtype: Any = None) -> pd.Series:
    return pd.Series(values, index=index, dtype=dtype)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (None, [10, 20, 30, 40]),
        ([0, 1, 2, 3], [10, 20, 30, 40]),
        ([1, 3, 0, 2], [30, 10, 40, 20]),  # pd.concat of two groups: row 1 is 10, row 3 is 20
        ([3.0, 2.0, 1.0, 0.0], [40, 30, 20, 10]),  # a number is a number
        (["a", "b", "c", "d"], [10, 20, 30, 40]),  # other labels
        (["3", "2", "1", "0"], [10, 20, 30, 40]),  # texts are no rows' labels
        ([7, 8, 9, 10], [10, 20, 30, 40]),
        (pd.Index([7, 1, 2, 9], name="customer"), [10, 20, 30, 40]),  # of something else
        (pd.MultiIndex.from_product([[1], [3, 2, 1, 0]]), [10, 20, 30, 40]),
        (pd.date_range("2026-01-01", periods=4), [10, 20, 30, 40]),
    ],
)
@pytest.mark.parametrize("as_frame", [False, True])
def test_predictions_whose_index_is_that_of_the_rows_in_another_order_are_put_in_theirs(
    index: Any, expected: list[int], *, as_frame: bool
) -> None:
    given_ = series([10, 20, 30, 40], index)
    result = pd.DataFrame({"p": given_}) if as_frame else given_
    before = executor.counted("aligned")
    assert as_column(result, version(LONG), ROWS).to_pylist() == expected
    aligned = executor.counted("aligned") - before
    assert aligned == (0 if expected == [10, 20, 30, 40] else ROWS)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ([0, 1, 2, 7], "names some of the rows twice or not at all"),
        ([1, 2, 3, 4], "names some of the rows twice or not at all"),  # one off
        ([0, 0, 1, 2], "names some of the rows twice or not at all"),
        ([0, 1, 2, "3"], "names some of the rows twice or not at all"),
        (pd.Index([3, 2, 1, 0], name="customer"), "an index 'customer' that numbers the rows"),
    ],
)
def test_an_index_that_could_mean_either_is_an_error(index: Any, says: str) -> None:
    with pytest.raises(Misshapen, match=says):
        as_column(series([10, 20, 30, 40], index), version(LONG), ROWS)


def test_each_output_of_a_dictionary_is_put_in_order_by_its_own_index_and_counted_once() -> None:
    result = {"a": series([1, 2, 3, 4], [1, 0, 2, 3]), "b": series([5, 6, 7, 8], [3, 2, 1, 0])}
    before = executor.counted("aligned")
    column = as_column(result, version(LONG, LONG, names=("a", "b")), ROWS)
    assert column.field(0).to_pylist() == [2, 1, 3, 4]
    assert column.field(1).to_pylist() == [8, 7, 6, 5]
    assert executor.counted("aligned") - before == ROWS


CUSTOMERS = pd.DataFrame({"customer": [1001, 1002, 1003, 1004], "score": [0.1, 0.2, 0.3, 0.4]})


@pytest.mark.parametrize(
    ("result", "names", "expected"),
    [
        (CUSTOMERS, ("score",), [0.1, 0.2, 0.3, 0.4]),  # by name, not the leftmost
        (CUSTOMERS.to_dict("list"), ("score",), [0.1, 0.2, 0.3, 0.4]),
        (CUSTOMERS[["score"]], ("score",), [0.1, 0.2, 0.3, 0.4]),
        (CUSTOMERS[["score"]], None, [0.1, 0.2, 0.3, 0.4]),  # one, and the signature names none
        (CUSTOMERS["score"], ("score",), [0.1, 0.2, 0.3, 0.4]),
        (CUSTOMERS["score"], ("other",), [0.1, 0.2, 0.3, 0.4]),  # of a Series there is but one
        (CUSTOMERS["score"].tolist(), ("score",), [0.1, 0.2, 0.3, 0.4]),
        (CUSTOMERS[["score"]].to_numpy(), ("score",), [0.1, 0.2, 0.3, 0.4]),  # four rows of one
    ],
)
def test_what_comes_with_names_is_taken_by_the_name_that_the_signature_has(
    result: Any, names: tuple[str, ...] | None, expected: list[float]
) -> None:
    assert as_column(result, version(DOUBLE, names=names), ROWS).to_pylist() == expected


@pytest.mark.parametrize(
    ("result", "wanted", "says"),
    [
        (CUSTOMERS, version(DOUBLE), r"\['customer', 'score'\]; its signature has 1, unnamed"),
        (CUSTOMERS, version(DOUBLE, names=("p",)), r"\['customer', 'score'\]; its .* \['p'\]"),
        (CUSTOMERS[["score"]], version(DOUBLE, names=("p",)), r"\['score'\]; its .* \['p'\]"),
        (CUSTOMERS.to_numpy(), version(DOUBLE), "2 values per row; its signature has one"),
        (CUSTOMERS.to_numpy(), version(DOUBLE, DOUBLE, DOUBLE), "not 3 columns"),
        (CUSTOMERS, version(DOUBLE, LONG, names=("score", "x")), r"has \['score', 'x'\]"),
        (
            pd.concat([CUSTOMERS, CUSTOMERS], axis=1),
            version(DOUBLE, names=("score",)),
            "gave the columns",
        ),
        (CUSTOMERS["score"].iloc[:3], version(DOUBLE), "length 3 for a batch of length 4"),
        (1.0, version(DOUBLE), "length 1 for a batch of length 4"),
        (None, version(DOUBLE), "length 1 for a batch of length 4"),
    ],
)
def test_what_does_not_fit_the_names_or_the_rows_is_an_error(
    result: Any, wanted: Version, says: str
) -> None:
    with pytest.raises(Misshapen, match=says):
        as_column(result, wanted, ROWS)


NONE_OF = [None, float("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize(
    ("result", "kind", "expected"),
    [
        (series(["late", None, float("nan"), pd.NA]), TEXT, ["late", None, None, None]),
        (series(["a", None, "b", "a"], dtype="category"), TEXT, ["a", None, "b", "a"]),
        (series(["a", None, "b", "a"], dtype="string"), TEXT, ["a", None, "b", "a"]),
        (["a", None, "b", "a"], TEXT, ["a", None, "b", "a"]),
        (series([1, None, 3, 4], dtype="Int64"), LONG, [1, None, 3, 4]),
        (series([2**53 + 1, None, 3, 4], dtype="Int64"), LONG, [2**53 + 1, None, 3, 4]),
        (series([1.0, float("nan"), 3.0, 4.0]), LONG, [1, None, 3, 4]),  # whole numbers
        (series([True, None, False, True], dtype="boolean"), BOOL, [True, None, False, True]),
        (series([1.5, None, float("inf"), -0.0]), DOUBLE, [1.5, None, float("inf"), -0.0]),
        (series([1.5, None, 2.5, 3.5], dtype="Float64"), DOUBLE, [1.5, None, 2.5, 3.5]),
        (series([None] * 4), TEXT, [None] * 4),
        (series(NONE_OF), DOUBLE, [None] * 4),
        (np.array([1, 2, 3, 4], "int8"), DOUBLE, [1.0, 2.0, 3.0, 4.0]),
        (np.array([1, 2, 3, 4], "int64"), INT, [1, 2, 3, 4]),
        (np.array([0.5, 1.0, 2.0, 3.0]), FLOAT, [0.5, 1.0, 2.0, 3.0]),
    ],
)
def test_values_and_nulls_are_those_that_the_model_gave(
    result: Any, kind: pa.DataType, expected: list[Any]
) -> None:
    assert as_column(result, version(kind), ROWS).to_pylist() == expected


@pytest.mark.parametrize(
    ("result", "kind", "says"),
    [
        ([1.0, 2.0, 1.25, 3.0], LONG, "says long and the model gives 1.25"),
        ([1.0, 2.0, float("inf"), 3.0], LONG, "says long and the model gives inf"),
        (np.array([1, 2, 3, 2**40]), INT, "says integer and the model gives 1099511627776"),
        (
            np.array([1, 2, 3, 2**53 + 1]),
            DOUBLE,
            "says double and the model gives 9007199254740993",
        ),
        (np.array([1.0, 2.0, 3.0, 1e300]), FLOAT, "says float and the model gives 1e+300"),
        ([0, 1, 0, 1], TEXT, "says string and the model gives 0"),  # classes by number, for words
        ([1, "a", "b", "c"], TEXT, "says string and the model gives 1"),  # "1" by numpy
        (["1", "2", "3", "4"], DOUBLE, "says double and the model gives '1'"),
        ([True, False, True, True], LONG, "says long and the model gives True"),
        ([True, False, True, True], DOUBLE, "says double and the model gives True"),
        (series([True, None, True, True]), DOUBLE, "says double and the model gives True"),
        ([1, 0, 1, 1], BOOL, "says boolean and the model gives 1"),
        (np.array(["2026-01-01"] * 4, "datetime64[ns]"), LONG, "says long and the model gives"),
        ([1 + 2j] * 4, DOUBLE, "says double and the model gives (1+2j)"),
    ],
)
def test_a_value_of_another_type_is_an_error_and_never_cast(
    result: Any, kind: pa.DataType, says: str
) -> None:
    with pytest.raises(Misshapen, match=re.escape(says)):
        as_column(result, version(kind), ROWS)


@given(order=st.permutations(range(6)), shift=st.integers(-3, 3))
@settings(max_examples=200)
def test_pandas_own_assignment_by_index_is_what_is_published(order: list[int], shift: int) -> None:
    """The published values are those of `frame["p"] = result`, or there is an error."""
    frame = pd.DataFrame({"x": range(6)})
    result = pd.Series([10 * place for place in order], index=[place + shift for place in order])
    frame["p"] = result
    try:
        published = as_column(result, version(LONG), 6).to_pylist()
    except Misshapen:
        assert shift
        return
    assert not shift
    assert published == frame["p"].tolist()
