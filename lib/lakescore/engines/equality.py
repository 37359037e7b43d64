"""Equality: the fastest way to call a version that gives the expected values on a few real rows.

MLflow's PyFuncModel gives the expected values. If MLflow does not pass on what is asked for, the
library's own model does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DoubleType, FloatType, StructField

from lakescore import executor, scanning
from lakescore.engines import probing
from lakescore.engines.plan import EngineIneligible
from lakescore.errors import ScoringFailed
from lakescore.logs import NotEligible
from lakescore.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Literal

    from lakescore.assignment import Assignment
    from lakescore.engines.plan import Request
    from lakescore.options import ScanName
    from lakescore.runner import Runner
    from lakescore.signature import Contract

_HOPELESS_ROWS = 100
"""If this many rows fail, and no row succeeds, the model is at fault."""
_SEGMENTS_PROBED = 20
_REPEATS = 10
"""The repetitions of the probe that measure the cost of a row."""
_LARGE = 64 * 2**20
"""The bytes of a version's files from which its reference does not stay in memory."""
_EXACT_MODULES = ("sklearn.tree", "sklearn.ensemble", "sklearn.dummy")


@dataclass(frozen=True)
class Proof:
    """Versions that are called in the fastest way that gives the expected values."""

    sides: tuple[executor.Version | executor.Family, ...]
    """One a side of the request."""
    rows: str
    """A description of the rows on which they were proven."""
    seconds_a_row: float
    """The CPU seconds that all sides take for a row."""


def prove(request: Request, scan: ScanName) -> Proof:
    """Return the versions of *request* in the fastest way that gives the expected values.

    Args:
        request: the request; features of the versions get positions in `feature_columns`.
        scan: `direct` lets workers read the rows of the probe if they can.

    Raises:
        EngineIneligible: there are no rows.
        ScoringFailed, ModuleMissing, ResultUnfit, FeaturesLeftOut: a model cannot score any row.
    """
    families = [
        _prove_family(request, side.family, side.contracts, scan)
        for side in request.sides
        if side.family is not None
    ]
    contracts = [side.contracts[0] for side in request.sides if side.family is None]
    versions = _prove_versions(request, contracts, scan) if contracts else Proof((), "", 0.0)
    proofs = [*([versions] if contracts else []), *families]
    next_version = iter(versions.sides)
    next_family = (proof.sides[0] for proof in families)
    return Proof(
        tuple(
            next(next_version) if side.family is None else next(next_family)
            for side in request.sides
        ),
        "; on ".join(proof.rows for proof in proofs),
        sum(proof.seconds_a_row for proof in proofs),
    )


def _prove_versions(request: Request, contracts: Sequence[Contract], scan: ScanName) -> Proof:
    """Prove versions that score all rows."""
    runner, columns = request.runner, request.feature_columns
    sample = _read_rows(request, columns, scan)

    def read_elsewhere() -> pa.RecordBatch:
        try:
            if request.selection is None:
                raise NotEligible("the rows are not a snapshot's")  # noqa: TRY301 - as all others
            rows = scanning.scattered(request.selection, columns, probing.ROWS)
        except NotEligible as not_eligible:
            runner.start(f"Spark looks for rows that the model can score: {not_eligible}")
            shuffled = replace(request, source=request.rows.orderBy(F.rand(0)))
            return _read_rows(shuffled, columns)
        return rows.combine_chunks().to_batches()[0]

    versions = tuple(
        _fastest_version(
            runner,
            contract,
            probing.feature_positions(contract, columns),
            sample,
            read_elsewhere,
        )
        for contract in contracts
    )
    seconds = _seconds_a_row(runner, versions, contracts, sample)
    return Proof(versions, counted(sample.num_rows, "row"), seconds)


def _prove_family(
    request: Request, assigned: Assignment, contracts: Sequence[Contract], scan: ScanName
) -> Proof:
    """Prove one version of each kind, on rows of its segment, for all versions of the kind.

    Versions of a kind differ in their learned parameters, but are loaded and called alike. A kind
    without rows in the sample, and each kind after the first `_SEGMENTS_PROBED`, uses MLflow's own
    way, which needs no proof. Workers check for each model again if it takes a block of numbers.
    """
    runner, columns = request.runner, request.feature_columns
    features = [probing.feature_positions(contract, columns) for contract in contracts]
    versions = [
        reference_version(contract, positions)
        for contract, positions in zip(contracts, features, strict=True)
    ]
    sample, numbers = _sample_segments(request, assigned, scan)
    rows_at_once = executor.BYTES_GATHERED * sample.num_rows / max(1, sample.nbytes)
    rows_a_call = max(1.0, rows_at_once / len(assigned.numbers))
    rows_tried, seconds = 0, []
    for alike in _group_by_kind(contracts)[:_SEGMENTS_PROBED]:
        tried = Counter(number for number in numbers if number in alike)
        if not tried:
            continue
        number = tried.most_common(1)[0][0]
        rows = _rows_of(sample, numbers, number)
        version = _fastest_version(runner, contracts[number], features[number], rows)
        a_row = _seconds_a_row(runner, [version], [contracts[number]], rows)
        seconds.append(a_row + _seconds_a_call(runner, version, rows) / rows_a_call)
        rows_tried += rows.num_rows
        for like in alike:
            versions[like] = _version_in_mode(version.mode, contracts[like], versions[like])
        # Its few rows can all have failed, which proves nothing.
        versions[number] = replace(version, proven=False)
    family = executor.Family(
        uri=None if request.shown_family else assigned.uri,
        members=tuple(versions),
        position=len(columns),
        numbers=assigned.numbers,
    )
    description = (
        f"{counted(rows_tried, 'row')}, of one version of each of {counted(len(seconds), 'kind')}"
    )
    return Proof((family,), description, max(seconds, default=0.0))


def _sample_segments(
    request: Request, assigned: Assignment, scan: ScanName
) -> tuple[pa.RecordBatch, list[int | None]]:
    """Return rows of the features and the segment, and for each row the number of its version."""
    columns, name = request.feature_columns, str(assigned.by)
    segment_column = StructField(name, request.schema[name].dataType)
    most = probing.ROWS * _SEGMENTS_PROBED
    sample = _read_rows(request, [*columns, segment_column], scan, most)
    segments = sample.column(len(columns)).to_pylist()
    texts = [None if segment is None else str(segment) for segment in segments]
    return sample, [assigned.numbers.get(text) for text in texts]


def _rows_of(sample: pa.RecordBatch, numbers: Sequence[int | None], wanted: int) -> pa.RecordBatch:
    """Return the first rows of *sample* for the version with the *wanted* number."""
    places = [n for n, number in enumerate(numbers) if number == wanted]
    return sample.take(pa.array(places[: probing.ROWS]))


def _group_by_kind(contracts: Sequence[Contract]) -> list[set[int]]:
    """Return the positions of *contracts* in groups: versions that are loaded and called alike."""
    kinds: dict[str, set[int]] = {}
    for number, contract in enumerate(contracts):
        kinds.setdefault(_model_kind(contract), set()).add(number)
    return list(kinds.values())


def _read_rows(
    request: Request,
    columns: Sequence[StructField],
    scan: ScanName = "spark",
    most: int = probing.ROWS,
) -> pa.RecordBatch:
    sample = probing.read_sample(request, columns, scan, most)
    if sample is None:
        raise EngineIneligible("there are no rows to probe it with")
    return sample


def _model_kind(contract: Contract) -> str:
    """Return the facts that decide how a version is loaded and called; not what it learned."""
    loadable, results = contract.loadable, str(contract.results)
    loader = {k: v for k, v in loadable.flavors.get("python_function", {}).items() if k != "env"}
    native = loadable.native if loadable.library else None
    return repr(
        (
            *(loader, loadable.params, loadable.own_code, results, contract.features),
            *(contract.takes, contract.shapes),
            *(dict(contract.names), dict(contract.sources), dict(contract.nulls)),
            (native.library, native.pickled, native.method, native.names) if native else None,
            (native.settings.get("model_class"), loadable.has_categories) if native else None,
        )
    )


def _seconds_a_row(
    runner: Runner,
    versions: Sequence[executor.Version],
    contracts: Sequence[Contract],
    sample: pa.RecordBatch,
) -> float:
    """Return the CPU seconds of one more row, without the fixed costs of a batch."""
    small = pa.Table.from_batches([sample])
    large = pa.concat_tables([small] * _REPEATS).combine_chunks().to_batches()[0]
    seconds = []
    for rows in (sample, large):
        started = executor.cpu_seconds()
        for version, contract in zip(versions, contracts, strict=True):
            probing.attempt(runner, version, contract, rows)
        seconds.append(executor.cpu_seconds() - started)
    more = seconds[1] - seconds[0]
    return float(max(0.0, more / (large.num_rows - sample.num_rows)))


def _seconds_a_call(runner: Runner, version: executor.Version, rows: pa.RecordBatch) -> float:
    """Return the CPU seconds of one more call for a few *rows*, without the costs of a request."""
    seconds = []
    for times in (1, _REPEATS):
        started = executor.cpu_seconds()
        runner.call(executor.attempt, [version] * times, rows)
        seconds.append(executor.cpu_seconds() - started)
    return float(max(0.0, (seconds[1] - seconds[0]) / (_REPEATS - 1)))


def _fastest_version(
    runner: Runner,
    contract: Contract,
    features: tuple[tuple[str | int, int], ...],
    sample: pa.RecordBatch,
    read_elsewhere: Callable[[], pa.RecordBatch] | None = None,
) -> executor.Version:
    """Return the version for workers, in the fastest mode that gives the expected values.

    If all rows of *sample* fail, *read_elsewhere* returns rows from other places in the table.
    """
    reference = reference_version(contract, features)
    expected, why = probing.attempt(runner, reference, contract, sample)
    if read_elsewhere is not None and not why.null_count and sample.num_rows >= _HOPELESS_ROWS:
        _check_scores_any(runner, reference, contract, sample.num_rows, read_elsewhere())
    if expected.null_count == len(expected):  # no row can show a difference
        return reference
    for version in _faster_versions(runner, reference, contract):
        if _gives_expected(
            runner, version, sample, (expected, why), exact=_is_exact(runner, version)
        ):
            if _is_loaded_apart(reference, version) and reference.size > _LARGE:
                runner.call(executor.release, reference)
            return version
    return reference


def _is_loaded_apart(one: executor.Version, other: executor.Version) -> bool:
    """Return whether a worker that applies both versions loads the model twice."""
    return (one.mode == "pyfunc") != (other.mode == "pyfunc")


def _check_scores_any(
    runner: Runner,
    version: executor.Version,
    contract: Contract,
    tried: int,
    elsewhere: pa.RecordBatch,
) -> None:
    """Check that a version that failed on all *tried* rows can score any rows at all.

    Those rows can all come from one bad day, so the check uses as many rows from *elsewhere* in
    the table.
    """
    _, why = probing.attempt(runner, version, contract, elsewhere)
    if not why.null_count:
        first = why[0].as_py()[0]
        raise ScoringFailed(
            version.uri,
            f"any of {tried + elsewhere.num_rows} rows tried",
            f"{first['type']}: {first['message']}",
        )


def reference_version(
    contract: Contract, features: tuple[tuple[str | int, int], ...]
) -> executor.Version:
    """Return the version whose values are expected, with its policies for nulls."""
    positions: Mapping[str | int, int] = dict(features)
    names = contract.names
    nulls = tuple(
        (names[name], positions[names[name]], rule) for name, rule in contract.worker_nulls.items()
    )
    return replace(probing.bind_version(contract, features), nulls=nulls)


def _version_in_mode(
    mode: Literal["block", "frame", "pyfunc"], contract: Contract, reference: executor.Version
) -> executor.Version:
    """Return a version in the mode in which a version of its kind was proven."""
    if mode == reference.mode:
        return reference
    return replace(_native_version(contract, reference), mode=mode, proven=False)


def _native_version(contract: Contract, reference: executor.Version) -> executor.Version:
    """Return a version as a model of its library."""
    return replace(
        contract.loadable.native,
        features=reference.features,
        takes=reference.takes,
        shapes=reference.shapes,
        outputs=reference.outputs,
        nulls=reference.nulls,
    )


def _faster_versions(
    runner: Runner, reference: executor.Version, contract: Contract
) -> Iterator[executor.Version]:
    """Yield the version as a model of its library in faster modes, the fastest first."""
    if contract.loadable.library is None:
        return
    raw = _native_version(contract, reference)
    kinds = {feature.dataType for feature in contract.features}
    if contract.takes != "frame":
        yield from [replace(raw, mode="block")] if contract.takes == "array" else []
        return
    is_block = kinds <= {DoubleType()} or kinds <= {FloatType()}
    if is_block and not contract.loadable.has_categories:  # a block has only their codes
        names = runner.call(executor.describe, raw).features
        if names is None or tuple(name for name, _ in raw.features) == names:
            yield replace(raw, mode="block")
    if reference.mode == "pyfunc":
        yield raw


def _gives_expected(
    runner: Runner,
    version: executor.Version,
    sample: pa.RecordBatch,
    expected: tuple[pa.Array, pa.Array],
    *,
    exact: bool,
) -> bool:
    """Return whether *version* gives the *expected* predictions, and fails on the same rows."""
    (predicted,), why = runner.call(executor.attempt, [version], sample)
    if not why.is_null().equals(expected[1].is_null()):
        return False
    return executor.alike(predicted, expected[0], exact=exact)


def _is_exact(runner: Runner, version: executor.Version) -> bool:
    """Return whether the model decides by comparisons, so that any difference is an error."""
    return runner.call(executor.describe, version).module.startswith(_EXACT_MODULES)
