"""What runs in Spark's Python workers: Arrow batches or files' rows in, predictions out.

It imports nothing of lakescore and is pickled by value, so executors need the model's own
requirements, and MLflow where the model is not a plain scikit-learn one, and never our package.
"""

from __future__ import annotations

import os
import platform
import sys
import types
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_MODELS_AT_ONCE = 16
"""How many models a worker process keeps; the one used longest ago goes first."""
_ROWS_AT_ONCE = 131_072
_CELLS_AT_ONCE = 4_000_000
"""What is read at once: a batch costs a model calls of its own, and a wide table memory."""
_REBASED = {b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96"}
_PROLEPTIC_SINCE = (3, 1)
"""The version of Spark whose files hold dates and times as they are, unless marked otherwise."""
_NO_ROWS_FAULT = (ImportError, MemoryError)
"""What no row causes: it would hit them all, so it is not looked for row by row."""
_LONGEST_MESSAGE = 500
_LISTED_BY_A_TASK = 16 * 2**20
_LISTED_IN_ALL = 512 * 2**20
"""Bytes of the failed rows that come to the driver; those beyond are counted alone."""
WHY = pa.struct([("version", pa.string()), ("type", pa.string()), ("message", pa.string())])
"""Why a row could not be scored, and by which version."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model version as a worker applies it."""

    uri: str
    key: str
    """Of what is loaded: equal keys, equal models."""
    folder: str
    """The artifacts: an absolute path, or the name of an archive that Spark ships."""
    mode: Literal["block", "frame", "pyfunc"]
    """What it eats: one block of numbers (scikit-learn), a pandas frame (scikit-learn), or a frame
    by way of MLflow's PyFuncModel, which checks it against the signature once more."""
    pickled: str | None
    """The scikit-learn model's file in *folder*, where it can be read without MLflow."""
    features: tuple[tuple[str, int], ...]
    """The signature's columns: name, and position in the batch."""
    outputs: pa.Schema
    """What it gives: one column, or several that become one struct."""
    method: str = "predict"
    """The method of a scikit-learn model that `block` and `frame` call."""
    params: Mapping[str, Any] | None = None
    """For MLflow's `predict`, in the mode `pyfunc` alone."""
    nulls: tuple[tuple[str, int, Literal["null", "quarantine"]], ...] = ()
    """Features, with their positions, whose nulls the model is not asked about: the prediction is
    null then, or the row fails."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table as workers read it."""

    stored: str
    """Its name in the files."""
    partition: bool
    """Whether the log holds its values instead."""
    read: pa.DataType
    """The table's type."""
    give: pa.DataType
    """The type that it is given on in, which holds every value of `read`."""
    widens: bool
    """Whether older files may hold a narrower type than the table's."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Rows of one row group of a Parquet file."""

    path: str
    row_group: int
    skip: int
    rows: int
    deleted: bytes | None
    """One bit for each of the rows, set where it is deleted."""
    values: tuple[Any, ...]
    """By column, the partition's value."""


@dataclass(frozen=True, kw_only=True)
class Only:
    """A condition on rows."""

    column: int
    """Its position."""
    among: tuple[Any, ...] | None
    """The values that it may have; any but null and NaN when none are given."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What workers read: columns, and the pieces of each task."""

    columns: tuple[Column, ...]
    tasks: tuple[tuple[Piece, ...], ...]
    only: Only | None


def predictor(
    versions: Sequence[Version],
    *,
    kept: int,
    scan: Scan | None = None,
    tally: Any = None,
    aside: bool = False,
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow`: the first *kept* columns, then one for each version.

    A last column says why rows could not be scored, and by which version: a list of `WHY`, null
    where all could.

    Args:
        versions: what is applied.
        kept: how many columns go back as they came.
        scan: what the worker reads itself; the batches that it gets then number its tasks.
        tally: a Spark accumulator of `Tally`, to which each task adds.
        aside: rows that could not be scored go to *tally*, and there is no such column.
    """

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        part, before = Part(), _loads()
        names = [f"p{n}" for n in range(len(versions))]
        for batch in batches if scan is None else _read_tasks(scan, batches):
            predicted, why = attempt(versions, batch)
            part.rows += batch.num_rows
            part.failed += len(why) - why.null_count
            columns, held = batch.columns[:kept], batch.schema.names[:kept]
            if not aside:
                columns, held = [*columns, *predicted, why], [*held, *names, "why"]
                yield pa.RecordBatch.from_arrays(columns, names=held)
                continue
            rows = pa.RecordBatch.from_arrays([*columns, *predicted], names=[*held, *names])
            if why.null_count < len(why):
                part.add(pa.RecordBatch.from_arrays([*columns, why], names=[*held, "why"]))
                rows = rows.filter(why.is_null())
            yield rows
        if tally is not None:
            tally.add(
                Tally(
                    parts={_task(): part}, loads=_loads() - before, workers=frozenset({_worker()})
                )
            )

    return predict


@dataclass
class Part:
    """What one task did."""

    rows: int = 0
    """Rows that were predicted, or tried."""
    failed: int = 0
    """Those of them that could not be scored."""
    size: int = 0
    listing: list[bytes] = field(default_factory=list)
    """The failed rows' kept columns and `why`, as Arrow streams."""

    def add(self, rows: pa.RecordBatch) -> None:
        """List those of *rows* that say why they failed."""
        bad = rows.filter(rows.column("why").is_valid())
        if self.size > _LISTED_BY_A_TASK:
            return
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, bad.schema, options=options) as stream:
            stream.write_batch(bad)
        self.listing.append(sink.getvalue().to_pybytes())
        self.size += len(self.listing[-1])


@dataclass
class Tally:
    """What workers did, added up over tasks."""

    parts: dict[tuple[int, int], Part] = field(default_factory=dict)
    """By stage and partition: of a task that was tried again, once."""
    loads: int = 0
    """Models that were loaded."""
    workers: frozenset[str] = frozenset()
    size: int = 0
    """Bytes of the listings."""

    @property
    def rows(self) -> int:
        """Rows that were predicted, or tried."""
        return sum(part.rows for part in self.parts.values())

    @property
    def failed(self) -> int:
        """Rows that could not be scored."""
        return sum(part.failed for part in self.parts.values())

    def listed(self) -> pa.Table | None:
        """Return the failed rows' kept columns and `why`, if any failed."""
        streams = [each for part in self.parts.values() for each in part.listing]
        tables = [pa.ipc.open_stream(each).read_all() for each in streams]
        return pa.concat_tables(tables) if tables else None


class Adding:
    """How Spark adds tallies up (an `AccumulatorParam`)."""

    def zero(self, value: Tally) -> Tally:  # noqa: ARG002 - Spark's interface
        """Return what a task begins with."""
        return Tally()

    def addInPlace(self, left: Tally, right: Tally) -> Tally:  # noqa: N802 - Spark's interface
        """Add *right* to *left*, and return it."""
        for task, part in right.parts.items():
            if task in left.parts:
                continue
            if left.size + part.size > _LISTED_IN_ALL:
                part.listing, part.size = [], 0
            left.parts[task] = part
            left.size += part.size
        left.loads += right.loads
        left.workers |= right.workers
        return left


def _task() -> tuple[int, int]:
    from pyspark import TaskContext  # noqa: PLC0415 - at hand in every worker

    task = TaskContext.get()
    return (task.stageId(), task.partitionId()) if task else (0, 0)


def _worker() -> str:
    return f"{platform.node()}:{os.getpid()}"


def _read_tasks(scan: Scan, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            for piece in scan.tasks[number]:
                yield from read(scan, piece)


def read(scan: Scan, piece: Piece) -> Iterator[pa.RecordBatch]:
    """Yield the rows of *piece* that are not deleted and that the scan's condition holds for.

    Columns that the file lacks, since they were added to the table later, are null.
    """
    deleted = None
    if piece.deleted is not None:
        bits = np.frombuffer(piece.deleted, np.uint8)
        deleted = np.unpackbits(bits, count=piece.rows).astype(bool)
    with pq.ParquetFile(piece.path, memory_map=True, coerce_int96_timestamp_unit="us") as file:
        there = set(file.schema_arrow.names)
        stored = [c.stored for c in scan.columns if not c.partition and c.stored in there]
        batches = file.iter_batches(
            max(1, min(_ROWS_AT_ONCE, _CELLS_AT_ONCE // max(1, len(stored)))),
            row_groups=[piece.row_group],
            columns=list(dict.fromkeys(stored)),
            use_threads=False,
        )
        position = -piece.skip  # of a batch's first row in the piece
        for whole in batches:
            first, last = max(0, -position), min(whole.num_rows, piece.rows - position)
            if first < last:
                batch = whole.slice(first, last - first)
                keep = None if deleted is None else ~deleted[position + first : position + last]
                rows = _chosen(scan, piece, batch, keep)
                if rows.num_rows:
                    yield rows
            position += whole.num_rows


def _chosen(
    scan: Scan, piece: Piece, batch: pa.RecordBatch, keep: np.ndarray[Any, Any] | None
) -> pa.RecordBatch:
    """Return the columns of *scan* for the rows of *batch*, typed, without those that must go."""
    columns = [
        _given(column, batch, value)
        for column, value in zip(scan.columns, piece.values, strict=True)
    ]
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{n}" for n in range(len(columns))])
    mask = None if keep is None else pa.array(keep)
    if scan.only is not None:
        holds = _holds(rows.column(scan.only.column), scan.only)
        mask = holds if mask is None else pc.and_(mask, holds)
    if mask is None or pc.all(mask).as_py():
        return rows
    return rows.filter(mask)


def _given(column: Column, batch: pa.RecordBatch, value: Any) -> pa.Array:
    if column.partition:
        return pa.repeat(pa.scalar(value, column.read), batch.num_rows).cast(column.give)
    position = batch.schema.get_field_index(column.stored)
    if position < 0:
        return pa.nulls(batch.num_rows, column.give)
    array = batch.column(position)
    if array.type != column.read:
        array = array.cast(column.read)
    return array if column.read == column.give else array.cast(column.give)


def _holds(values: pa.Array, only: Only) -> pa.Array:
    if only.among is None:
        return pc.invert(pc.is_null(values, nan_is_null=True))
    return pc.is_in(values, value_set=pa.array(list(only.among), values.type))


def footers(
    paths: Sequence[str], columns: Sequence[Column]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow` that gives `footer` of numbered *paths*."""

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            numbers = batch.column(0)
            found = [footer(paths[number], columns) for number in numbers.to_pylist()]
            rows = pa.array([list(each[0]) for each in found], pa.list_(pa.int64()))
            problems = pa.array([each[1] for each in found], pa.string())
            yield pa.RecordBatch.from_arrays(
                [numbers, rows, problems], names=["file", "rows", "problem"]
            )

    return look


def footer(path: str, columns: Sequence[Column]) -> tuple[tuple[int, ...], str | None]:
    """Return the rows of each row group of a file, and why it cannot be read here, if so."""
    try:
        with pq.ParquetFile(path, memory_map=True, coerce_int96_timestamp_unit="us") as file:
            metadata = file.metadata
            rows = tuple(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
            return rows, _problem(file.schema_arrow, metadata.metadata or {}, columns)
    except (OSError, pa.ArrowException) as error:
        return (), f"cannot be opened: {error}"


def _problem(schema: pa.Schema, marks: dict[bytes, bytes], columns: Sequence[Column]) -> str | None:
    for column in columns:
        names = [name for name in schema.names if name.lower() == column.stored.lower()]
        if not names:
            continue
        if names != [column.stored]:
            return f"has the columns {names} for {column.stored!r}"
        held = schema.field(column.stored).type
        if not (held == column.read or _reads_as(held, column.read, widens=column.widens)):
            return f"holds {column.stored!r} as {held}, not {column.read}"
        if pa.types.is_temporal(column.read) and _is_rebased(marks):
            return f"holds {column.stored!r} in the calendar of an old Spark"
    return None


def _reads_as(held: pa.DataType, asked: pa.DataType, *, widens: bool) -> bool:
    """Tell whether every value of *held* is one of *asked*, and a reader of Delta shall give it."""
    types = pa.types
    if types.is_dictionary(held):
        held = held.value_type
    if types.is_string(asked):
        return bool(types.is_large_string(held) or types.is_string_view(held) or held == asked)
    if types.is_binary(asked):
        return bool(types.is_large_binary(held) or types.is_binary_view(held) or held == asked)
    if types.is_timestamp(asked):
        # Spark writes instants without a zone (INT96) or in UTC, and either is an instant.
        return bool(
            types.is_timestamp(held) and held.unit == "us" and bool(held.tz) <= bool(asked.tz)
        )
    if not widens:
        return False
    if types.is_signed_integer(held):
        wider = types.is_signed_integer(asked) and asked.bit_width > held.bit_width
        return bool(wider or (types.is_float64(asked) and held.bit_width < 64))  # noqa: PLR2004
    return bool(types.is_float32(held) and types.is_float64(asked))


def _is_rebased(marks: dict[bytes, bytes]) -> bool:
    """Tell whether dates before 1582 could need Spark's own conversion of calendars."""
    version = marks.get(b"org.apache.spark.version", b"").decode().split(".")
    old = len(version) > 1 and tuple(map(int, version[:2])) < _PROLEPTIC_SINCE
    return old or bool(_REBASED & marks.keys())


def attempt(versions: Sequence[Version], batch: pa.RecordBatch) -> tuple[list[pa.Array], pa.Array]:
    """Return what `apply` does, with null for the rows that a model cannot score, and why.

    A batch with such a row is halved until it is found: of n rows that hold k of them, some
    2 k log n calls fail.

    Returns:
        The predictions of each of *versions*, and a list of `WHY` by row, null where all could.

    Raises:
        ImportError, MemoryError: no row causes these.
    """
    inputs: dict[Any, Any] = {}
    predictions: list[pa.Array] = []
    reasons: dict[int, list[dict[str, str]]] = {}
    for version in versions:
        loaded(version)  # that a model cannot be loaded is no row's fault
        found, failures = _asked(version, batch, inputs)
        predictions.append(found)
        for row, (kind, message) in failures.items():
            why = {"version": version.uri, "type": kind, "message": message}
            reasons.setdefault(row, []).append(why)
    if not reasons:
        return predictions, pa.nulls(batch.num_rows, pa.list_(WHY))
    return predictions, pa.array(map(reasons.get, range(batch.num_rows)), pa.list_(WHY))


def _asked(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    """Return the predictions, and the type and message of the error for each row that failed."""
    unasked: dict[int, tuple[str, str] | None] = {}
    for name, position, policy in version.nulls:
        column = batch.column(position)
        if column.null_count:
            failure = ("NullInput", f"{name} is null") if policy == "quarantine" else None
            for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
                unasked[row] = unasked.get(row) or failure
    failures = {row: failure for row, failure in unasked.items() if failure is not None}
    if not unasked:
        return _bisected(version, batch, inputs)
    rest = np.setdiff1d(np.arange(batch.num_rows), list(unasked))
    found, failed = _bisected(version, batch.take(pa.array(rest)), {})
    failures |= {int(rest[row]): failure for row, failure in failed.items()}
    places = np.full(batch.num_rows, -1)
    places[rest] = np.arange(len(rest))
    return found.take(pa.array(places, mask=places < 0)), failures


def _bisected(
    version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]
) -> tuple[pa.Array, dict[int, tuple[str, str]]]:
    pieces: list[pa.Array] = []
    failures = {}
    misshapen: Misshapen | None = None
    spans = [(0, batch.num_rows)] if batch.num_rows else []
    while spans:
        start, end = spans.pop()
        whole = end - start == batch.num_rows
        piece = batch if whole else batch.slice(start, end - start)
        try:
            pieces.append(_predicted(version, piece, inputs if whole else {}))
        except _NO_ROWS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
            if end - start == 1:
                failures[start] = (type(error).__name__, _message(error))
                pieces.append(pa.nulls(1, _kind(version.outputs)))
            else:
                if misshapen is None and isinstance(error, Misshapen):
                    misshapen = error
                middle = (start + end) // 2
                spans += [(middle, end), (start, middle)]
    if misshapen is not None and not failures:
        raise misshapen  # each row alone gives something, and together they do not
    if not pieces:
        return pa.nulls(0, _kind(version.outputs)), failures
    return (pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)), failures


def _message(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's error may fail to say what it is
        text = "an error that cannot say what it is"
    return text[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()


class Misshapen(ValueError):
    """What a model gave is not one value a row of the type that its signature says."""


def apply(versions: Sequence[Version], batch: pa.RecordBatch) -> list[pa.Array]:
    """Return the predictions of each of *versions* for the rows of *batch*.

    Raises:
        Misshapen: a model gave another number of rows than it got, or what its signature does not
            say.
        ValueError: an integer column, which pandas cannot hold with nulls, has some.
    """
    inputs: dict[Any, Any] = {}
    return [_predicted(version, batch, inputs) for version in versions]


def _predicted(version: Version, batch: pa.RecordBatch, inputs: dict[Any, Any]) -> pa.Array:
    """Return one version's predictions; versions that eat the same share the *inputs* made."""
    model = loaded(version)
    kind = (version.mode, version.features)
    if kind not in inputs or version.mode == "pyfunc":  # a stranger's code may change its frame
        make = _block if version.mode == "block" else _frame
        inputs[kind] = make(batch, version.features)
    params = {} if version.params is None else {"params": version.params}
    method = "predict" if version.mode == "pyfunc" else version.method
    result = getattr(model, method)(inputs[kind], **params)
    try:
        return _column(result, version.outputs, batch.num_rows)
    except Misshapen:
        raise
    except (pa.ArrowException, LookupError, TypeError, ValueError) as error:
        raise Misshapen(f"{type(error).__name__}: {error}") from error


def _block(batch: pa.RecordBatch, features: Sequence[tuple[str, int]]) -> Any:
    """Return one read-only block, columns side by side, as scikit-learn reads them; null is NaN."""
    columns = [batch.column(position) for _, position in features]
    block = np.empty((batch.num_rows, len(columns)), columns[0].type.to_pandas_dtype(), order="F")
    for n, column in enumerate(columns):
        block[:, n] = column.to_numpy(zero_copy_only=False)
    block.flags.writeable = False
    return block


def _frame(batch: pa.RecordBatch, features: Sequence[tuple[str, int]]) -> Any:
    columns = [batch.column(position) for _, position in features]
    names = [name for name, _ in features]
    for name, column in zip(names, columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            raise ValueError(f"the integer column {name!r} holds nulls")
    return pa.RecordBatch.from_arrays(columns, names=names).to_pandas()


def _column(result: Any, outputs: pa.Schema, rows: int) -> pa.Array:
    """Return what a model gave as one Arrow column of the type that its signature says."""
    if len(outputs) > 1:
        if getattr(result, "ndim", 2) != 2 or (  # noqa: PLR2004 - rows and columns
            not hasattr(result, "columns") and np.shape(result)[1] != len(outputs)
        ):
            raise Misshapen(f"the model gave {np.shape(result)}, not {len(outputs)} columns")
        columns = [
            _array(result[each.name] if hasattr(result, "columns") else result[:, n], each, rows)
            for n, each in enumerate(outputs)
        ]
        return pa.StructArray.from_arrays(columns, fields=list(outputs))
    return _array(result, outputs.field(0), rows)


def _kind(outputs: pa.Schema) -> pa.DataType:
    return pa.struct(list(outputs)) if len(outputs) > 1 else outputs.field(0).type


def _array(result: Any, output: pa.Field, rows: int) -> pa.Array:
    values = np.atleast_1d(np.asarray(result)) if rows == 1 else np.asarray(result)
    if not values.ndim or len(values) != rows:
        raise Misshapen(f"the model gave {values.size} predictions for {rows} rows")
    if pa.types.is_list(output.type):
        flat = pa.array(values.reshape(-1), output.type.value_type, from_pandas=True)
        width = values.shape[1]
        offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, flat)
    if values.ndim > 1:
        if values.shape[1:] != (1,):
            raise Misshapen(f"the model gave {values.shape[1]} values a row; its signature has one")
        values = values.reshape(-1)
    # NaN becomes null, as where MLflow's spark_udf hands pandas to Spark.
    return pa.array(values, output.type, from_pandas=True)


def loaded(version: Version) -> Any:
    """Return the model of *version*, loaded once a worker process, whatever its number of tasks.

    This module is unpickled anew for each task, so what is loaded is kept outside of it.
    """
    shelf = _shelf()
    models: OrderedDict[Any, Any] = vars(shelf).setdefault("models", OrderedDict())
    key = (version.key, version.mode == "pyfunc")
    if key not in models:
        models[key] = _load(version)
        vars(shelf)["loads"] = _loads() + 1
        while len(models) > _MODELS_AT_ONCE:
            models.popitem(last=False)
    models.move_to_end(key)
    return models[key]


def _shelf() -> types.ModuleType:
    return sys.modules.setdefault("_lakescore_models", types.ModuleType("_lakescore_models"))


def _loads() -> int:
    """Return how many models this process has loaded so far."""
    return int(vars(_shelf()).get("loads", 0))


def _load(version: Version) -> Any:
    folder = _folder(version.folder)
    if version.mode == "pyfunc":
        import mlflow  # noqa: PLC0415 - seconds of import that scikit-learn's models do not need

        model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
        _bound_jobs(getattr(model, "_model_impl", None))
        return model
    # A block of numbers has no names; that they are in the model's order was seen to.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if version.pickled is None:
        import mlflow.sklearn  # noqa: PLC0415 - see above

        estimator = mlflow.sklearn.load_model(folder)
    else:
        import cloudpickle  # noqa: PLC0415 - a requirement of the model, not of Spark

        with open(os.path.join(folder, version.pickled), "rb") as file:  # noqa: PTH118, PTH123
            estimator = cloudpickle.load(file)
    _bound_jobs(estimator)
    return estimator


def _folder(folder: str) -> str:
    if os.path.isabs(folder):  # noqa: PTH117 - pathlib would be one more import in each worker
        return folder
    from pyspark import SparkFiles  # noqa: PLC0415

    return SparkFiles.get(folder)


def _bound_jobs(model: Any) -> None:
    """Give a scikit-learn model as many jobs as the task has cores: Spark cannot see joblib's."""
    estimator = getattr(model, "sklearn_model", model)
    if not hasattr(estimator, "get_params"):
        return
    from pyspark import TaskContext  # noqa: PLC0415

    task = TaskContext.get()
    cores = task.cpus() if task else 1
    jobs = {name: cores for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"}
    estimator.set_params(**jobs)
