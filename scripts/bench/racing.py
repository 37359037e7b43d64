"""Racing: contenders in turn, by size and round; predictions are equal before any time counts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from rich.console import Console

from bench import contenders as c
from bench.contenders import Contender
from bench.sessions import Cost, Session, Sessions
from bench.workloads import EVEN, KEY, WORKLOADS, Layout, Workload

console = Console(highlight=False)


@dataclass(frozen=True)
class Quick:
    """What a quick run keeps of a race: what the targets name, on fewer rows."""

    sizes: tuple[int, ...]
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class Race:
    """What runs against what, on which rows."""

    name: str
    workload: Workload
    contenders: tuple[Contender, ...]
    """The last one's predictions are those that the others must give."""
    sizes: tuple[int, ...]
    """Numbers of rows."""
    quick: Quick | None = None
    """None where a quick run leaves it out."""
    layout: Layout = EVEN
    rounds: int = 1
    """How many times as many rounds as others."""
    counts_loads: bool = False


@dataclass
class Series:
    """What a contender took, by number of rows: each round that counts."""

    costs: dict[int, list[Cost]] = field(default_factory=dict)

    def least(self, unit: str, rows: int) -> float:
        """Return the seconds of the round that was disturbed least."""
        return min(float(getattr(cost, unit)) for cost in self.costs[rows])

    def line(self, unit: str) -> tuple[float, float] | None:
        """Return a, in seconds, and b, in seconds a million rows: T = a + b n."""
        sizes = sorted(self.costs)
        if len(sizes) == 1:
            return None
        seconds = [self.least(unit, rows) for rows in sizes]
        slope, intercept = np.polyfit([rows / 1e6 for rows in sizes], seconds, 1)
        return float(intercept), float(slope)

    def facts(self) -> dict[str, Any]:
        """Return all as it stands in the results."""
        lines = {unit: self.line(unit) for unit in ("cpu", "wall")}
        return {
            unit: {
                **({} if line is None else {"a": round(line[0], 3), "b": round(line[1], 4)}),
                "seconds": {
                    rows: [round(getattr(cost, unit), 3) for cost in costs]
                    for rows, costs in self.costs.items()
                },
            }
            for unit, line in lines.items()
        }


M = 1_000_000
_SHAPE = (c.PRUNED, c.SPARK_SCAN, c.DIRECT, c.LIMIT)
LINEAR, FOREST = WORKLOADS["linear"], WORKLOADS["forest"]
_BOOSTED = (("lightgbm", 16, 1), ("xgboost", 32, 1), ("catboost", 64, 2))
"""The boosting libraries, the files of a table, and the rounds. The cheaper a row is, the more rows
it needs until the noise of the JVM, a fifth of a second, is small beside them. The larger table has
files of 125,000 rows: in larger blocks the limit is slower, since new memory costs page faults.
"""
RACES = (  # the first of a session is where the JVM compiles most, so it is none that counts slopes
    Race(
        "versions in one pass",
        LINEAR,
        (
            *[c.direct_of(k) for k in (1, 2, 4, 8)],
            *[c.spark_scan_of(k) for k in (1, 4)],
            *[c.limit_of(k) for k in (4, 8, 1)],
        ),
        (1 * M, 3 * M),
        Quick((M // 2, 2 * M), (c.direct_of(1), c.direct_of(4), c.limit_of(1))),
        counts_loads=True,
    ),
    Race(
        "linear",
        LINEAR,
        (
            c.DOCS,
            c.PRUNED,
            c.LAKESCORE_UDF,
            c.SPARK_SCAN,
            c.DIRECT,
            c.JOB,
            c.BY_HAND,
            c.NO_MODEL,
            c.POLARS,
            c.LIMIT,
        ),
        (1 * M, 3 * M, 10 * M),
        Quick(
            (M // 2, 3 * M),
            (c.DOCS, c.PRUNED, c.SPARK_SCAN, c.DIRECT, c.BY_HAND, c.NO_MODEL, c.LIMIT),
        ),
    ),
    Race(
        "forest",
        FOREST,
        (
            c.PRUNED,
            c.SPARK_SCAN,
            c.DIRECT,
            c.DIRECT_ALONE,
            c.BY_HAND,
            c.LIMIT_BOTH,
            c.LIMIT,
        ),
        (M // 4, M, 2 * M),
        Quick((M // 20, 3 * M // 4), (c.DIRECT, c.DIRECT_ALONE, c.LIMIT_BOTH)),
    ),
    Race(
        "flights",
        WORKLOADS["flights"],
        (c.DOCS, c.PRUNED, c.SPARK_SCAN, c.DIRECT, c.BY_HAND, c.NO_MODEL, c.POLARS, c.LIMIT),
        (M // 2, 1 * M, 3 * M),
        Quick((M // 20, 3 * M // 4), (c.PRUNED, c.DIRECT, c.LIMIT)),
    ),
    Race(
        "small table",
        LINEAR,
        (c.PRUNED, c.SPARK_SCAN, c.DIRECT, c.JOB, c.NO_MODEL, c.LIMIT),
        (8_000,),
        Quick((8_000,), (c.JOB, c.NO_MODEL, c.LIMIT)),
        rounds=2,
    ),
    Race(
        "boosting",
        WORKLOADS["boosting"],
        (c.PRUNED, c.SPARK_SCAN, c.DIRECT, c.BY_HAND, c.POLARS, c.LIMIT),
        (M // 2, 2 * M),
    ),
    *[
        Race(
            name,
            WORKLOADS[name],
            (c.PRUNED, c.DIRECT, c.LIMIT_BOTH, c.LIMIT),
            (files * M // 64, files * M // 8),
            Quick((files * M // 64, files * M // 8), (c.DIRECT, c.LIMIT_BOTH)),
            layout=Layout(files=files),
            rounds=rounds,
        )
        for name, files, rounds in _BOOSTED
    ],
    *[
        Race(
            name.replace("-both", " in and out"),
            WORKLOADS[name],
            (c.SPARK_SCAN, c.DIRECT, c.LIMIT_BOTH, c.LIMIT),
            (M // 20, M // 2),
            Quick((M // 50, M // 5), (c.DIRECT, c.LIMIT_BOTH)),
        )
        for name in ("embeddings", "embeddings-both")
    ],
    Race(
        "linear, own environment",
        LINEAR,
        (c.UDF_OWN, c.OWN, c.DIRECT, c.LIMIT),
        (M // 2, 3 * M),
        Quick((M // 4, 2 * M), (c.UDF_OWN, c.OWN, c.DIRECT)),
    ),
    Race(
        "forest, own environment",
        FOREST,
        (c.OWN, c.DIRECT, c.LIMIT),
        (M // 20, 3 * M // 4),
        Quick((M // 20, M // 2), (c.OWN, c.DIRECT)),
    ),
    Race(
        "linear, monitored",
        LINEAR,
        (c.MONITORED, c.DIRECT, c.LIMIT),
        (M // 2, 3 * M),
        Quick((M // 2, 3 * M), (c.MONITORED, c.DIRECT)),
    ),
    Race(
        "linear, with rules",
        LINEAR,
        (c.WITH_RULES, c.DIRECT, c.LIMIT),
        (M // 2, 3 * M),
        Quick((M // 2, 3 * M), (c.WITH_RULES, c.DIRECT)),
    ),
    Race("linear, float32", WORKLOADS["float32"], _SHAPE, (M // 2, 2 * M)),
    Race("linear, one row group", LINEAR, _SHAPE, (M // 2, 2 * M), layout=Layout(files=1)),
    Race("linear, forty small files", LINEAR, _SHAPE, (M // 2, 2 * M), layout=Layout(files=40)),
    Race(
        "linear, sixty unused columns",
        LINEAR,
        (c.DOCS, *_SHAPE),
        (M // 2, 2 * M),
        layout=Layout(unused=60),
    ),
    Race("forest, one row group", FOREST, _SHAPE, (M // 8, M // 2), layout=Layout(files=1)),
    Race(
        "forest, saved with n_jobs=1",
        WORKLOADS["forest-one-job"],
        _SHAPE,
        (M // 8, M // 2),
    ),
    Race("forest, saved with n_jobs=-1", FOREST, _SHAPE, (M // 8, M // 2)),
)
_FRESH = (c.DOCS, c.PRUNED, c.SPARK_SCAN, c.DIRECT, c.JOB, c.BY_HAND, c.NO_MODEL, c.POLARS,
          c.LIMIT)  # fmt: skip
_SMALL, _LARGE = 8_000, 2 * M
COLD = "cold"
"""What stands for `Meeting.cold` among the races' names."""


class Meeting:
    """Races in the same sessions, on tables in the same folder."""

    def __init__(self, folder: Path, *, rounds: int) -> None:
        self._folder, self._rounds = folder, rounds
        self._sessions = Sessions(folder)

    def race(self, race: Race, quick: Quick | None) -> dict[str, Any]:
        """Run *race*, or what *quick* keeps of it, and return what its contenders took."""
        sizes, running = (quick or race).sizes, (quick or race).contenders
        inputs = {rows: self._table(race.workload, race.layout, rows) for rows in sizes}
        load = os.getloadavg()[0]
        self._check_equal(race, running, inputs[sizes[0]])
        series = {contender.name: Series() for contender in running}
        for turn in range(self._rounds * race.rounds):
            for rows in sizes:
                for contender in running if turn % 2 == 0 else reversed(running):
                    session = self._sessions.at(contender.place)
                    cost, _ = session.run(contender, race.workload, inputs[rows])
                    series[contender.name].costs.setdefault(rows, []).append(cost)
            console.print(f"bench: {race.name}, round {turn + 1}")
        result = {
            "quick": quick is not None,
            "sizes": sizes,
            "rounds": self._rounds * race.rounds,
            "load": [round(load, 2), round(os.getloadavg()[0], 2)],
            "contenders": {name: contender.facts() for name, contender in series.items()},
        }
        return result | {"loads": self._loads()} if race.counts_loads else result

    def _loads(self) -> dict[str, int]:
        """Score with fresh versions, and return what workers loaded."""
        source = self._table(LINEAR, EVEN, _SMALL * 10)
        _, facts = self._sessions.at(c.FRESH.place).run(c.FRESH, LINEAR, source)
        return {key: facts[key] for key in ("versions", "loads", "workers")}

    def cold(self) -> dict[str, Any]:
        """Measure the first job of each contender in its own session, and its memory."""
        small, large = (self._table(LINEAR, EVEN, rows) for rows in (_SMALL, _LARGE))
        figures, load = {}, os.getloadavg()[0]
        for contender in _FRESH:
            with Session(contender.place, self._folder) as session:
                first, _ = session.run(contender, LINEAR, small)
                second, _ = session.run(contender, LINEAR, small)
                figures[contender.name] = {
                    "start": vars(session.start),
                    "first": vars(first),
                    "second": vars(second),
                    "peak_mb": round(session.peak(contender, LINEAR, large)),
                }
            console.print(f"bench: {contender.name}, in a fresh session")
        return {
            "small": _SMALL,
            "large": _LARGE,
            "load": [round(load, 2), round(os.getloadavg()[0], 2)],
            "contenders": figures,
        }

    def close(self) -> None:
        """End the sessions."""
        self._sessions.close()

    def _table(self, workload: Workload, layout: Layout, rows: int) -> str:
        kind = workload.rows.__name__  # several models read the same rows
        path = self._folder / f"{kind}-{rows}-{layout.files}-{layout.unused}"
        return layout.write(path, workload, rows)

    def _check_equal(self, race: Race, running: Sequence[Contender], source: str) -> None:
        """Run each contender once, which also warms it up; end if predictions differ."""
        expected: Any = None
        for contender in reversed(running):
            session = self._sessions.at(contender.place)
            with session.output(contender, race.workload, source) as (target, _, _):
                if not contender.predicts:
                    continue
                table = DeltaTable(target).to_pyarrow_table().sort_by(KEY)
            names = [n for n in table.column_names if n.startswith(("prediction", "models:"))]
            predicted = np.column_stack([_numbers(table.column(n)) for n in names])
            keys = table.column(KEY)
            if expected is None:
                expected = keys, predicted[:, : predicted.shape[1] // len(names)]
            same = keys.equals(expected[0]) and np.allclose(
                predicted, expected[1], rtol=race.workload.tolerance, atol=race.workload.tolerance
            )
            if not same:
                raise SystemExit(
                    f"error: {race.name}: the predictions of {contender.name!r} are not the limit's"
                )
        console.print(f"bench: {race.name}: {len(running)} contenders predict the same")


def _numbers(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 - a block of numbers
    """Return the numbers of *column*; the arrays of a column become the rows of a block."""
    if not pa.types.is_list(column.type):
        return column.to_numpy()
    values = column.combine_chunks().flatten().to_numpy()
    return values.reshape(len(column), -1)
