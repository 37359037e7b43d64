"""Models as people log them: one of each kind, scored by each engine as on pandas."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import catboost
import lightgbm
import mlflow
import numpy as np
import onnx
import pandas as pd
import pyspark
import pytest
import score
import statsmodels.api as sm
import xgboost
from builders.jobs import score_job
from builders.models import register
from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import AnyType, Array, ColSpec, Map, Schema
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from lakescore import scoring, signature, slicing, tables
from lakescore.engines.plan import EngineRefused
from lakescore.errors import InputContractError
from lakescore.loading import prepare
from lakescore.options import BindOptions, LoadOptions
from lakescore.publishing import TooManyErrors
from lakescore.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.config import ScoreJob
    from lakescore.snapshots import Snapshot

SCHEMA = (
    "id int, x double, y float, n bigint, kind string, flag boolean, at timestamp, "
    "wall timestamp_ntz, day date, blob binary, price decimal(9, 2), many decimal(9, 0), "
    "v array<double>, p struct<b: string, a: double>, m map<string, double>, `0` double, "
    "`1` double, words array<string>, grid array<array<float>>, "
    "marks array<struct<n: bigint, s: string>>, q struct<n: bigint, w: array<bigint>>, "
    "whens map<string, timestamp>, tiny tinyint, born date, exact decimal(20, 2)"
)
LOOSE = {
    **dict.fromkeys(["at", "wall", "day", "price", "many", "born", "exact"], "string"),
    "whens": "map<string, string>",
}
"""Types of columns that Spark itself casts to those of the table."""
NOON, OLD, LAST = "2024-02-29 12:30:00.123456", "1677-09-22 00:00:00", "2262-04-11 00:00:00"
MOON = "1969-12-31 23:59:59"
BIG = 2**53 + 1
"""A whole number that no double holds."""
ROWS: list[Any] = [
    (1, 1.0, 0.5, 7, "red", True, NOON, NOON, "2024-02-29", b"\x00a", "1.10", "3",
     [1.0, 2.0], {"b": "u", "a": 1.5}, {"k": 1.0}, 1.0, 5.0,
     ["a", None], [[1.0], [2.0, 3.0]], [{"n": BIG, "s": "t"}, {"n": None, "s": None}],
     {"n": BIG, "w": [BIG, 1]}, {"k": NOON}, 1, "0001-01-01", "123456789012345678.91"),
    (2, 2.5, 1.5, 8, "blue", False, None, None, None, None, "-2.35", "-4",
     [3.5], {"b": "v", "a": -2.0}, {"k": 2.0, "l": 3.0}, 2.0, 6.0,
     [], [], [], {"n": None, "w": []}, {}, 2, "9999-12-31", "-0.01"),
    (3, -4.0, 2.5, 9, None, True, OLD, LAST, "1900-01-01", b"", "0.07", "5",
     [], {"b": None, "a": 0.0}, {}, 3.0, 7.0,
     ["", "é"], [[], [0.5]], [{"n": 1, "s": ""}], {"n": 3, "w": [1]}, {"l": NOON}, 3, None, None),
    (4, 0.5, 3.5, 2**53 + 1, "red", False, MOON, NOON, "2200-12-31", b"zz", "9.99", "6",
     [0.25, None, 0.75], {"b": "w", "a": 9.0}, {"k": 0.0}, 4.0, 8.0,
     ["b"], [[4.0]], [{"n": None, "s": "u"}], {"n": 4, "w": [2, 3]}, {"k": NOON}, -4,
     "1969-12-31", "1.00"),
]  # fmt: skip
NAMES = ["id", "x", "y", "n", "kind", "flag", "at", "wall", "day", "blob", "price", "many", "v",
         "p", "m", "0", "1", "words", "grid", "marks", "q", "whens", "tiny", "born",
         "exact"]  # fmt: skip


def on_pandas() -> pd.DataFrame:
    """Return the rows as training code has them in pandas, also under names that are numbers."""
    frame = pd.DataFrame(ROWS, columns=NAMES)
    for name in ("at", "wall", "day"):
        frame[name] = frame[name].astype("datetime64[ns]")
    frame["born"] = [text and date.fromisoformat(text) for text in frame["born"]]
    frame["exact"] = [text and Decimal(text) for text in frame["exact"]]
    frame["whens"] = [{k: pd.Timestamp(v) for k, v in m.items()} for m in frame["whens"]]
    frame = frame.astype({"y": "float32", "price": "float64", "many": "int64", "tiny": "int8"})
    return pd.concat([frame, frame[["0", "1"]].set_axis([0, 1], axis=1)], axis=1)


@dataclass(frozen=True)
class Kind:
    """A model, what it takes and what its signature says."""

    takes: list[Any]
    model: Any
    gives: Any
    takes_as: Schema | None = None
    """The signature of what it takes, if MLflow cannot infer it."""
    spark_udf: str = ""
    """Why the arrow engine leaves it to spark_udf."""
    calls: str = "predict"
    """The method that MLflow's function calls, as scikit-learn's flavour logs it."""

    @property
    def options(self) -> dict[str, str]:
        """More options of `log_model`."""
        return {} if self.calls == "predict" else {"pyfunc_predict_fn": self.calls}


def own(function: Callable[[pd.DataFrame], Any]) -> mlflow.pyfunc.PythonModel:
    class Own(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:  # noqa: ARG002
            return function(model_input)

    return Own()


def shown(name: str) -> mlflow.pyfunc.PythonModel:
    """Return a model that gives the very values that it gets, as texts, with the column's type."""
    return own(lambda f: [f"{f[name].dtype} {value!r}" for value in f[name]])


def any_type(name: str) -> Schema:
    return Schema([ColSpec(AnyType(), name)])


def twice_x() -> onnx.ModelProto:
    sides = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [None, 1]) for n in ("x", "y")]
    two = helper.make_tensor("two", TensorProto.DOUBLE, [1], [2.0])
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"])]
    graph = helper.make_graph(nodes, "twice", sides[:1], sides[1:], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


F = on_pandas()
X, XN, N01 = F[["x"]], F[["x", "n"]], F[[0, 1]]
NUMBER, TEXT, FLAG = np.array([1.0]), np.array(["a"]), np.array([True])
TREES = {"n_estimators": 3, "min_child_samples": 1, "verbose": -1}
OF_LISTS = Schema([ColSpec(Array("double"), "v")])
ALL_NONE = X.assign(kind=None)

KINDS: dict[str, Kind] = {
    # Libraries
    "a regressor of scikit-learn": Kind(["x"], LinearRegression().fit(X, F["y"]), NUMBER),
    "a classifier of texts": Kind(["x"], LogisticRegression().fit(X, ["a", "b", "a", "b"]), TEXT),
    "a tree of numbers and whole ones": Kind(
        ["x", "n"], DecisionTreeRegressor().fit(XN, F["y"]), NUMBER
    ),
    "a regressor of columns without names": Kind(
        [0, 1], LinearRegression().fit(N01, F["y"]), NUMBER
    ),
    "probabilities instead of classes": Kind(
        ["x"], LogisticRegression().fit(X, [0, 1, 0, 1]), np.zeros((1, 2)), calls="predict_proba"
    ),
    "logarithms of probabilities": Kind(
        ["x"],
        LogisticRegression().fit(X, [0, 1, 0, 1]),
        np.zeros((1, 2)),
        calls="predict_log_proba",
    ),
    "LightGBM's booster": Kind(
        ["x"],
        lightgbm.train({"min_data_in_leaf": 1, "verbose": -1}, lightgbm.Dataset(X, F["y"]), 3),
        NUMBER,
    ),
    "LightGBM's classifier": Kind(
        ["x"], lightgbm.LGBMClassifier(**TREES).fit(X, [0, 1, 0, 1]), np.array([1])
    ),
    "XGBoost's regressor": Kind(
        ["x"], xgboost.XGBRegressor(n_estimators=3).fit(X, F["y"]), np.array([1], np.float32)
    ),
    "XGBoost's booster": Kind(
        ["x"], xgboost.train({}, xgboost.DMatrix(X, F["y"]), 3), np.array([1], np.float32)
    ),
    "CatBoost's regressor": Kind(
        ["x"],
        catboost.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False).fit(
            X, F["y"]
        ),
        NUMBER,
    ),
    "statsmodels' least squares": Kind(["x"], sm.OLS(F["y"], X).fit(), NUMBER),
    "ONNX": Kind(["x"], twice_x(), pd.DataFrame({"y": [1.0]})),
    # What a PythonModel may give
    "a Series": Kind(["x"], own(lambda f: 2 * f["x"]), NUMBER),
    "an array": Kind(["x"], own(lambda f: 2 * f["x"].to_numpy()), NUMBER),
    "a list": Kind(["x"], own(lambda f: [2 * x for x in f["x"]]), [1.0]),
    "a column": Kind(
        ["x"], own(lambda f: f[["x"]].set_axis(["score"], axis=1)), pd.DataFrame({"score": [1.0]})
    ),
    "a column that the signature does not name": Kind(["x"], own(lambda f: f[["x"]]), NUMBER),
    "two columns": Kind(
        ["x"],
        own(lambda f: pd.DataFrame({"high": f["x"] + 1, "low": f["x"]})),  # the signature's order
        pd.DataFrame({"low": [1.0], "high": [1.0]}),
    ),
    "two numbered columns": Kind(
        ["x"],
        own(lambda f: pd.DataFrame(np.c_[f["x"], -f["x"]])),
        pd.DataFrame([[1.0, 1.0]]),
    ),
    "columns that Delta cannot name": Kind(
        ["x"],
        own(lambda f: pd.DataFrame({"low bound": f["x"], "P(high)": -f["x"]})),
        pd.DataFrame({"low bound": [1.0], "P(high)": [1.0]}),
    ),
    "a dict of lists": Kind(
        ["x"],
        own(lambda f: {"low": list(f["x"]), "high": list(-f["x"])}),
        pd.DataFrame({"low": [1.0], "high": [1.0]}),
    ),
    "a dict of arrays": Kind(
        ["x"],
        own(lambda f: {"low": f["x"].to_numpy(), "high": -f["x"].to_numpy()}),
        {"low": NUMBER, "high": NUMBER},
    ),
    "a list of records": Kind(
        ["x"],
        own(lambda f: [{"low": x, "sign": "-" if x < 0 else "+"} for x in f["x"]]),
        [{"low": 1.0, "sign": "+"}],
    ),
    "two numbers a row": Kind(["x"], own(lambda f: np.c_[f["x"], -f["x"]]), np.zeros((1, 2))),
    "no number for some": Kind(["x"], own(lambda f: f["x"].where(f["x"] > 0)), NUMBER),
    "nullable whole numbers": Kind(
        ["x"],
        own(lambda f: pd.Series([1 if x > 0 else None for x in f["x"]], dtype="Int64")),
        np.array([1]),
    ),
    "flags": Kind(["x"], own(lambda f: f["x"] > 0), FLAG),
    "texts": Kind(["x"], own(lambda f: f["x"].map(str)), TEXT),
    # More than one value a row, or a type that the signature does not know
    "texts of which the signature saw a missing one": Kind(
        ["x"],
        own(lambda f: pd.Series(["late" if x > 0 else None for x in f["x"]], dtype=object)),
        pd.Series(["late", None]),
    ),
    "a list a row, not all of one length": Kind(
        ["x"], own(lambda f: [[x] * int(abs(x) // 1) for x in f["x"]]), pd.Series([[1.0], [2.0]])
    ),
    "a list of whole numbers a row": Kind(
        ["x"], own(lambda f: [[1] * int(abs(x) // 1) for x in f["x"]]), pd.Series([[1], [2]])
    ),
    "a list of texts a row": Kind(
        ["x"],
        own(lambda f: [["a", None] if x > 0 else ["b"] for x in f["x"]]),
        pd.Series([["a"], ["b"]]),
    ),
    "an object a row": Kind(
        ["x"],
        own(lambda f: pd.Series([{"at": [x], "up": "yes" if x > 0 else None} for x in f["x"]])),
        pd.Series([{"at": [1.0], "up": "yes"}]),
    ),
    "a map a row": Kind(
        ["x"],
        own(lambda f: pd.Series([{"k": x, "l": None} if x > 0 else {} for x in f["x"]])),
        Schema([ColSpec(Map("double"))]),
    ),
    # What columns may hold
    "times to read": Kind(["at"], shown("at"), TEXT),
    "times without a zone": Kind(["wall"], shown("wall"), TEXT),
    "days": Kind(["day"], shown("day"), TEXT),
    "bytes": Kind(["blob"], shown("blob"), TEXT),
    "floats": Kind(["y"], shown("y"), TEXT),
    "flags to read": Kind(["flag"], shown("flag"), TEXT),
    "texts to read": Kind(["kind"], shown("kind"), TEXT),
    "whole numbers": Kind(["n"], shown("n"), TEXT),
    "decimals for whole numbers": Kind(["many"], shown("many"), TEXT),
    "decimals for numbers": Kind(["price"], shown("price"), TEXT),
    "names that are numbers": Kind(
        [0, 1], own(lambda f: [f"{list(f.columns)} {a} {b}" for a, b in f.to_numpy()]), TEXT
    ),
    "a column that was missing in training": Kind(
        ["x", "nothing"],
        own(lambda f: [f"{list(f.columns)} {x}" for x in f["x"]]),
        TEXT,
    ),
    "lists to read": Kind(
        ["v"], own(lambda f: [float(np.nansum(v)) for v in f["v"]]), NUMBER, takes_as=OF_LISTS
    ),
    "lists of texts": Kind(
        ["words"], own(lambda f: ["|".join(map(str, v)) for v in f["words"]]), TEXT
    ),
    "lists in lists": Kind(
        ["grid"],
        own(lambda f: [str([list(map(float, a)) for a in v]) for v in f["grid"]]),
        TEXT,
    ),
    "objects to read": Kind(
        ["p"], own(lambda f: [f"{p['a']} {p['b']}" for p in f["p"]]), TEXT
    ),
    "objects of whole numbers": Kind(
        ["q"], own(lambda f: [f"{q['n']!r} {list(q['w'])}" for q in f["q"]]), TEXT
    ),
    "lists of objects": Kind(
        ["marks"],
        own(lambda f: [str([(m["n"], m["s"]) for m in v]) for v in f["marks"]]),
        TEXT,
    ),
    "maps to read": Kind(
        ["m"], own(lambda f: [float(sum(m.values())) for m in f["m"]]), NUMBER,
        takes_as=Schema([ColSpec(Map("double"), "m")]),
    ),
    "maps of times": Kind(
        ["whens"], own(lambda f: [str({k: str(v)[:19] for k, v in m.items()}) for m in f["whens"]]),
        TEXT, takes_as=any_type("whens"),
        spark_udf="whens (map<string,timestamp>)",
    ),
    "lists to read and to give": Kind(
        ["v"],
        own(lambda f: [[float(a) for a in v] for v in f["v"]]),
        pd.Series([[1.0], [2.0]]),
        takes_as=OF_LISTS,
    ),
    "a list beside a number for a name": Kind(
        ["v", 1],
        own(lambda f: [f"{list(f.columns)} {list(map(float, v))}" for v in f["v"]]),
        TEXT,
    ),
    # Columns of any type stay as they are
    "days of any type": Kind(["born"], shown("born"), TEXT, takes_as=any_type("born")),
    "decimals of any type": Kind(["exact"], shown("exact"), TEXT, takes_as=any_type("exact")),
    "small numbers of any type": Kind(["tiny"], shown("tiny"), TEXT, takes_as=any_type("tiny")),
}  # fmt: skip
READ = [name for name, kind in KINDS.items() if kind.takes != ["x"] and not kind.spark_udf]
"""What depends on who reads the table."""
ALIKE = {
    "a regressor of scikit-learn", "a classifier of texts", "a tree of numbers and whole ones",
    "LightGBM's classifier", "XGBoost's regressor", "XGBoost's booster", "CatBoost's regressor",
    "statsmodels' least squares", "a Series", "an array", "a list", "a column", "two columns",
    "a dict of arrays", "flags", "texts", "a list of whole numbers a row", "floats",
    "flags to read", "texts to read", "whole numbers", "decimals for whole numbers",
    "a column that was missing in training", "lists to read", "a list beside a number for a name",
    "lists of texts", "objects to read", "maps to read", "days of any type",
    "small numbers of any type", "logarithms of probabilities",
}  # fmt: skip
"""Kinds that MLflow's function treats as it treats others; each kind costs it a process."""
# Spark 3.5 gives Python the whole numbers of structs as fractions if one is null.
UNREADABLE = (
    {"objects of whole numbers", "lists of objects"} if pyspark.__version__ < "4" else set()
)
BY_MLFLOW = [
    name
    for name in KINDS
    if name not in UNREADABLE and (os.environ.get("ALL_KINDS") or name not in ALIKE)
]
DIRECT = [n for n, kind in KINDS.items() if kind.takes != ["price"] and not kind.spark_udf]


def signed(kind: Kind) -> ModelSignature:
    """Return the signature that MLflow infers, where MLflow can."""
    frame = F.assign(nothing=None)[kind.takes]
    takes = kind.takes_as or infer_signature(frame).inputs
    gives = kind.gives
    return ModelSignature(
        takes, gives if isinstance(gives, Schema) else infer_signature(gives).inputs
    )


@pytest.fixture(scope="module", autouse=True)
def models(registry: str) -> None:
    mlflow.set_tracking_uri(registry)
    mlflow.set_experiment("models")
    for name, kind in KINDS.items():
        register(name, kind.model, signature=signed(kind), **kind.options)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return the rows in a Delta table: texts become times and decimals in Spark itself."""
    path = str(tmp_path_factory.mktemp("models") / "rows")
    typed = spark.createDataFrame([], SCHEMA).schema
    kinds = [f"`{f.name}` {LOOSE.get(f.name, f.dataType.simpleString())}" for f in typed]
    loose = spark.createDataFrame(ROWS, ", ".join(kinds))
    columns = [loose[f"`{field.name}`"].cast(field.dataType) for field in typed]
    cast = loose.select(*[c.alias(field.name) for c, field in zip(columns, typed, strict=True)])
    cast.coalesce(1).write.format("delta").save(path)
    return tables.snapshot(spark, path)


def planned(
    rows: Snapshot, names: Sequence[str], engine: Any = "auto", scan: Any = "direct", **bound: Any
) -> scoring.Plan:
    contracts = [
        signature.bind(
            "rows", rows.rows, prepare(resolve(f"{name}/1")), options=BindOptions(**bound)
        )
        for name in names
    ]
    selection = slicing.select(rows, None, ["all"])
    return scoring.plan(engine, selection, contracts, ["id"], scan)


def scored(plan: scoring.Plan, names: Sequence[str]) -> dict[str, list[Any]]:
    records = scoring.side_by_side(plan).orderBy("id").collect()
    assert [row[scoring.ERRORS] for row in records] == [None] * len(ROWS)
    return {name: [plain(row[f"models:/{name}/1"]) for row in records] for name in names}


@pytest.fixture(scope="module")
def by_workers(rows: Snapshot) -> dict[str, list[Any]]:
    plan = planned(rows, DIRECT)
    assert (plan.engine, plan.scan_reason) == ("arrow", "")
    return scored(plan, DIRECT)


@pytest.fixture(scope="module")
def by_spark(rows: Snapshot) -> dict[str, list[Any]]:
    return scored(planned(rows, READ, "arrow", "spark"), READ)


@pytest.fixture(scope="module")
def by_mlflow(rows: Snapshot) -> dict[str, list[Any]]:
    return scored(planned(rows, BY_MLFLOW, "spark_udf"), BY_MLFLOW)


def predicted(name: str) -> list[Any]:
    """Return what `predict` gives on pandas, row by row."""
    frame = F.assign(nothing=None)[KINDS[name].takes].drop(columns="nothing", errors="ignore")
    result = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(frame.copy())
    if isinstance(result, dict):
        result = pd.DataFrame(result)
    if isinstance(result, pd.DataFrame):
        names = mlflow.models.get_model_info(f"models:/{name}/1").signature.outputs.input_names()
        result = result[names] if len(names) > 1 else result.iloc[:, 0]
        result = result.to_numpy().tolist()
    elif isinstance(result, list) and isinstance(result[0], dict):
        result = [list(record.values()) for record in result]
    return [plain(value) for value in result]


def plain(value: Any) -> Any:
    """Return *value* as Python has it, whoever gave it; NaN is null in a table."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if hasattr(value, "asDict"):
        return plain(value.asDict()) if value.__fields__[0] == "at" else [plain(v) for v in value]
    if isinstance(value, (list, np.ndarray)):
        return [plain(part) for part in value]
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def same(given: Any, expected: Any) -> bool:
    """Tell whether two values are equal; numbers may differ as sums in another order do."""
    if isinstance(given, list) and isinstance(expected, list):
        return len(given) == len(expected) and all(map(same, given, expected))
    if isinstance(given, dict) and isinstance(expected, dict):
        return given.keys() == expected.keys() and all(same(given[k], expected[k]) for k in given)
    if type(given) is not type(expected):
        return False
    return bool(math.isclose(given, expected, rel_tol=1e-12) if type(given) is float else
                given == expected)  # fmt: skip


@pytest.mark.parametrize("name", DIRECT)
def test_workers_that_read_the_files_give_what_predict_gives_on_pandas(
    by_workers: dict[str, list[Any]], name: str
) -> None:
    assert same(by_workers[name], predicted(name)), (by_workers[name], predicted(name))


@pytest.mark.parametrize("name", READ)
def test_workers_that_spark_hands_rows_to_give_what_predict_gives_on_pandas(
    by_spark: dict[str, list[Any]], name: str
) -> None:
    assert same(by_spark[name], predicted(name)), (by_spark[name], predicted(name))


@pytest.mark.parametrize("name", BY_MLFLOW)
def test_the_function_of_mlflow_gives_what_predict_gives_on_pandas(
    by_mlflow: dict[str, list[Any]], name: str
) -> None:
    assert same(by_mlflow[name], predicted(name)), (by_mlflow[name], predicted(name))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.spark_udf])
def test_columns_that_hold_more_than_one_value_are_left_to_mlflow(
    rows: Snapshot, name: str
) -> None:
    reason = f"it does not take the columns {KINDS[name].spark_udf}"
    assert planned(rows, [name]).facts() == {"name": "spark_udf", "reason": reason}


def test_a_decimal_that_becomes_a_number_is_cast_by_spark(rows: Snapshot) -> None:
    plan = planned(rows, ["decimals for numbers"])
    assert plan.engine == "arrow"
    assert plan.scan_reason == "column 'price' is cast from a decimal, which Arrow does not round"


BAD = (
    "id int, at timestamp, wall timestamp_ntz, day date, n bigint, x double",
    [
        (1, NOON, NOON, "2024-02-29", 1, 1.0),
        (2, "1500-01-01 00:00:00", NOON, "2024-02-29", 1, 1.0),  # nanoseconds begin in 1677
        (3, NOON, "9999-12-31 00:00:00", "2024-02-29", 1, 1.0),  # and end in 2262
        (4, NOON, NOON, "9999-12-31", 1, 1.0),
        (5, NOON, NOON, "2024-02-29", None, 1.0),  # pandas holds no missing whole number
        (6, None, None, None, 1, 1.0),  # a missing time it does
    ],
)
AT = F[["at", "wall", "day", "n"]]


@pytest.fixture(scope="module")
def bad(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Return rows of which some hold what pandas cannot."""
    schema, rows = BAD
    path = str(tmp_path_factory.mktemp("models") / "bad")
    loose = "id int, at string, wall string, day string, n bigint, x double"
    kinds = [part.split() for part in schema.split(", ")]
    texts = spark.createDataFrame(rows, loose)
    cast = texts.select(*[texts[name].cast(kind).alias(name) for name, kind in kinds])
    cast.coalesce(1).write.format("delta").save(path)
    return tables.snapshot(spark, path)


@pytest.mark.parametrize("scan", ["direct", "spark"])
def test_a_row_that_pandas_cannot_hold_is_set_aside_and_names_the_column(
    bad: Snapshot, scan: str
) -> None:
    if scan == "direct":
        year = own(lambda f: f["at"].dt.year.astype("float64"))
        register("late", year, signature=infer_signature(AT, NUMBER))
    plan = planned(bad, ["late"], "auto", scan)
    assert (plan.engine, plan.direct is not None) == ("arrow", scan == "direct")
    by_id = {row["id"]: row for row in scoring.side_by_side(plan).collect()}
    assert {n: row[1] for n, row in by_id.items()} == {
        1: 2024.0, 2: None, 3: None, 4: None, 5: None, 6: None,
    }  # fmt: skip
    why = {n: row[scoring.ERRORS] and row[scoring.ERRORS][0]["message"] for n, row in by_id.items()}
    cannot = "holds a time that pandas cannot hold (1677 to 2262)"
    assert why == {
        1: None,
        2: f"the column 'at' {cannot}",
        3: f"the column 'wall' {cannot}",
        4: f"the column 'day' {cannot}",
        5: "n is null",
        6: None,
    }
    asked = planned(bad, ["late"], "auto", scan, nulls={"at": "quarantine", "n": "null"})
    told = {row["id"]: row[scoring.ERRORS] for row in scoring.side_by_side(asked).collect()}
    assert told[5] is None
    assert [tuple(reason)[1:] for reason in told[6]] == [("NullInput", "at is null")]


def test_times_are_left_to_mlflow_where_the_session_is_not_in_utc(
    spark: SparkSession, rows: Snapshot
) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        plan = planned(rows, ["times to read"])
        reason = "it reads times in UTC, and spark.sql.session.timeZone is Europe/Berlin"
        assert plan.facts() == {"name": "spark_udf", "reason": reason}
        first = scoring.side_by_side(plan).orderBy("id").first()
        assert first is not None
        assert "2024-02-29 13:30:00.123456" in first[1]
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_what_a_rule_for_nulls_needs_and_no_engine_has_is_told_with_both_reasons(
    rows: Snapshot,
) -> None:
    with pytest.raises(EngineRefused) as raised:
        planned(rows, ["maps of times"], nulls={"whens": "quarantine"})
    assert str(raised.value) == (
        "engine spark_udf cannot be used: it passes every row to the model, but nulls asks for "
        "whens: quarantine; engine arrow cannot be used: it does not take the columns whens "
        "(map<string,timestamp>); leave these out of nulls"
    )


@pytest.fixture
def job(rows: Snapshot, tmp_path: Path) -> Callable[..., ScoreJob]:
    def make(name: str, **changes: Any) -> ScoreJob:
        return score_job(tmp_path, rows.address, model=f"{name}/1", **changes)

    return make


def test_names_that_delta_refuses_are_told_as_they_were_and_as_they_are(
    spark: SparkSession, job: Callable[..., ScoreJob]
) -> None:
    name = "columns that Delta cannot name"
    receipt = score.run(job(name))
    assert receipt["output"]["columns"] == ["low_bound", "P_high_"]
    assert receipt["output"]["renamed"] == {"low bound": "low_bound", "P(high)": "P_high_"}
    records = spark.read.format("delta").load(receipt["output"]["table"]).orderBy("id").collect()
    assert [[row["low_bound"], row["P_high_"]] for row in records] == predicted(name)


def test_lists_are_published_by_both_engines(
    spark: SparkSession, job: Callable[..., ScoreJob], tmp_path: Path
) -> None:
    for name, engine, write in (
        ("a list a row, not all of one length", "arrow", "direct"),
        ("lists to read and to give", "arrow", "direct"),
        ("lists to read and to give", "spark_udf", "handed over"),
    ):
        config = job(name, output=tmp_path / f"{engine} {len(name)}", engine=engine)
        receipt = score.run(config)
        assert (receipt["engine"]["name"], receipt["output"]["write"]) == (engine, write)
        records = (
            spark.read.format("delta").load(receipt["output"]["table"]).orderBy("id").collect()
        )
        assert [row["prediction"] for row in records] == predicted(name)


def test_ordered_categories_whose_column_the_file_does_not_name_are_told_once(
    job: Callable[..., ScoreJob],
) -> None:
    colours = pd.Categorical(["red", "blue", "red", "blue"], ordered=True)
    kinds = pd.DataFrame({"kind": colours})
    data = lightgbm.Dataset(kinds, F["y"])
    booster = lightgbm.train({"min_data_in_leaf": 1, "verbose": -1}, data, 2)
    register("of categories", booster, signature=infer_signature(kinds, NUMBER))
    with pytest.raises(TooManyErrors, match="could not score any of 4 rows, all for one reason: "):
        score.run(job("of categories"))


def test_an_optional_feature_that_the_table_lacks_is_told(rows: Snapshot) -> None:
    bound = signature.bind(
        "rows", rows.rows, prepare(resolve("a column that was missing in training/1"))
    )
    assert bound.left_out == ("nothing",)


WITH_B = pd.DataFrame({"x": [1.0, 2.0], "b": [1.0, None]})
LOGS_MISSING_MODULE = own(lambda f: __import__("acme_features").shape(f))


def refused(name: str, model: Any, sample: Any, gives: Any, **given: Any) -> None:
    """Log a model once a process, whatever engine is asked to score it."""
    if not mlflow.MlflowClient().search_registered_models(filter_string=f"name = '{name}'"):
        register(name, model, signature=infer_signature(sample, gives), **given)


@pytest.mark.parametrize("engine", ["auto", "arrow", "spark_udf"])
@pytest.mark.parametrize(
    ("name", "model", "sample", "gives", "line"),
    [
        (
            "whole labels",
            LinearRegression().fit(X, [1.25, 1.25, 1.25, 1.25]),
            X,
            np.array([1]),
            ("URI cannot score the rows: the signature says long and the model gives "
            "1.25; log it with the signature of its real output: infer_signature(X, "
            "model.predict(X))"),
        ),
        (
            "whole labels in a list",  # which pyarrow would cut
            own(lambda f: [1.25 if x > 2 else None for x in f["x"]]),
            X,
            np.array([1]),
            ("URI cannot score the rows: the signature says long and the "
            "model gives 1.25; log it with the signature of its real output: infer_signature(X, "
            "model.predict(X))"),
        ),
        (
            "numbers for texts",
            own(lambda f: f["x"]),
            X,
            TEXT,
            ("URI cannot score the rows: the signature says string and the model "
            "gives 1.0; log it with the signature of its real output: infer_signature(X, "
            "model.predict(X))"),
        ),
        (
            "flags that may be missing",
            own(lambda f: [True if x > 0 else None for x in f["x"]]),
            X,
            pd.Series([True, None]),
            ("URI cannot score the rows: the signature says any, which "
            "is taken for texts, and the model gives True; log it with the signature of its real "
            "output: infer_signature(X, model.predict(X))"),
        ),
        (
            "a module",
            LOGS_MISSING_MODULE,
            X,
            NUMBER,
            ("URI needs the module 'acme_features', which is missing here; these "
            "packages of its requirements.txt are not installed: acme-features==1.0; install "
            "them, or give environment: own"),
        ),
        (
            "without names",
            own(lambda f: f[:, 0]),
            np.zeros((1, 2)),
            NUMBER,
            ("URI cannot score a table: its signature has 2 columns without names; name the "
            "table's columns in the order of the training data: features: [COLUMN1, COLUMN2], or "
             "one column of arrays: features: [COLUMN]"),
        ),
        (
            "numbers out of order",
            own(lambda f: f.sum(axis=1)),  # MLflow gives it the column 1 alone
            N01[[1, 0]],
            NUMBER,
            (
                "URI cannot score a table: MLflow confuses its columns 1, 0; log it with texts as "
                "names"
            ),
        ),
        (
            "names of outputs that collide",
            own(lambda f: pd.DataFrame({"a b": f["x"], "a_b": f["x"]})),
            X,
            pd.DataFrame({"a b": [1.0], "a_b": [1.0]}),
            ("URI gives the outputs 'a b', 'a_b', but they "
            "would share the column 'a_b'; log the model with other names for them"),
        ),
        (
            "an output called like a column",
            own(lambda f: pd.DataFrame({"slice": f["x"], "other": f["x"]})),
            X,
            pd.DataFrame({"slice": [1.0], "other": [1.0]}),
            ("URI gives the outputs 'slice', but lakescore "
             "writes columns with these names too; log the model with other names for them"),
        ),
        (
            "needs b all the same",
            LinearRegression().fit(WITH_B.fillna(0.0), [1.0, 2.0]),
            WITH_B,
            NUMBER,
            ("URI could not score any row: ValueError: The feature names "
            "should match those that were passed during fit. Feature names seen at fit time, yet "
            "now missing: - b; the table lacks its optional features 'b'; add them, or map other "
            "names in the table with columns: {feature: column}"),
        ),
        (
            "times as an output",
            own(lambda f: pd.to_datetime(f["x"])),
            X,
            pd.DataFrame({"at": pd.to_datetime(["2024-02-29"])}),
            ("URI cannot score a table: its output 'at' is or holds "
            "datetime, which no prediction can be"),
        ),
        (
            "an object of another shape",
            own(lambda f: f["x"]),
            pd.DataFrame({"p": [{"a": 1.0, "c": "u"}]}),
            NUMBER,
            ("rows does not fit the model's signature: 'p' is struct<b:string,a:double>, not "
            "struct<a:double,c:string>; cast the columns in the table, or log the model with the "
            "types of the table"),
        ),
        (
            "another case",
            own(lambda f: f["x"]),
            X.assign(KIND=[None, "a", "b", "c"]),
            NUMBER,
            ("rows has the column 'kind', but the model's optional feature is called 'KIND'; "
            "rename the column, or set columns: {KIND: kind}"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_in_one_line_before_it_is(  # noqa: PLR0913, PLR0917 - a row's cells
    rows: Snapshot, engine: str, name: str, model: Any, sample: Any, gives: Any, line: str
) -> None:
    needs = {"pip_requirements": ["acme-features==1.0"]} if name == "a module" else {}
    refused(name, model, sample, gives, **needs)
    with pytest.raises(InputContractError) as raised:
        planned(rows, [name], engine)
    assert str(raised.value) == line.replace("URI", f"models:/{name}/1")


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["a b", "a_b"], "gives the classes 'a b', 'a_b', but they would share the column 'p_a_b'"),
        (["Yes", "yes"], "gives the classes 'Yes', 'yes', but they would share the column 'p_Yes'"),
    ],
)
def test_classes_that_would_share_a_column_are_told_as_classes(
    rows: Snapshot, labels: list[str], line: str
) -> None:
    name = f"classes {labels[0]}"
    classifier = LogisticRegression().fit(X, labels * 2)
    register(name, classifier, signature=infer_signature(X, TEXT))
    with pytest.raises(InputContractError, match=line):
        signature.bind(
            "rows", rows.rows, prepare(resolve(f"{name}/1"), options=LoadOptions(output="proba"))
        )


def test_a_version_that_mlflow_cannot_apply_to_rows_is_refused_with_its_flavours() -> None:
    regressor = KINDS["a regressor of scikit-learn"].model
    register("of one flavour", regressor, signature=infer_signature(X, NUMBER))
    version = resolve("of one flavour/1")
    card = version.artifacts / "MLmodel"
    card.chmod(0o600)
    lines = card.read_text().splitlines(keepends=True)
    start = next(n for n, line in enumerate(lines) if line.startswith("  python_function:"))
    end = next(n for n, line in enumerate(lines) if n > start and not line.startswith("    "))
    card.write_text("".join(lines[:start] + lines[end:]))
    with pytest.raises(InputContractError, match=r"lacks the flavour python_function.* sklearn; "):
        prepare(version)
