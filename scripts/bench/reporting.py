"""What a run measured, for people: results.json, tables, plots; and the targets held against it."""

import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import contenders as c
from bench import segments, starting
from bench.contenders import Contender

RESULTS = Path(__file__).parents[2] / "docs" / "benchmark"
_HEADER = ("contender", "CPU-s: a", "b, a million rows", "x limit", "wall s: a", "b")
_COLD = ("contender", "start: CPU-s", "wall", "first job: CPU-s", "wall", "second: CPU-s", "wall",
         "peak PSS, MB")  # fmt: skip
_BOOSTED = ("lightgbm", "xgboost", "catboost")
_EMBEDDED = ("embeddings", "embeddings in and out")
_NEEDED = ("versions in one pass", "linear", "forest", "flights", "small table", *_BOOSTED,
           *_EMBEDDED, "linear, own environment", "forest, own environment")  # fmt: skip
"""The races that targets are about."""
_PLOTTED = ("linear", "forest", "flights")

console = Console(highlight=False)


class Results:
    """What was measured, as it stands in results.json."""

    def __init__(self, measured: dict[str, Any]) -> None:
        self.measured = json.loads(json.dumps(measured))  # as it is read: numbers of rows are texts

    @classmethod
    def last(cls) -> "Results":
        """Return those of the last run."""
        return cls(json.loads((RESULTS / "results.json").read_text()))

    def add(self, name: str, race: dict[str, Any]) -> None:
        """Add a race, in the place of what an earlier run measured."""
        self.measured.setdefault("races", {})[name] = json.loads(json.dumps(race))
        self.write()

    def write(self) -> None:
        """Write results.json, results.md and the plots."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "results.json").write_text(json.dumps(self.measured, indent=1) + "\n")
        (RESULTS / "results.md").write_text("\n".join(self._markdown()))
        for name in _PLOTTED:
            if race := self.measured["races"].get(name):
                _draw(name, race["contenders"])

    def show(self, name: str) -> None:
        """Print a race's table."""
        header, lines = _lines(self.measured["races"][name])
        table = Table(*header, title=name)
        for line in lines:
            table.add_row(*line)
        console.print(table)

    def check(self) -> int:
        """Print each target with what was measured; return 1 where one is missed.

        Raises:
            SystemExit: a race of the targets has no results.
        """
        if lacking := [name for name in _NEEDED if name not in self.measured["races"]]:
            raise SystemExit(
                f"error: there are no results of {', '.join(lacking)}; measure them: "
                f"./scripts/bench.sh --quick --only '{lacking[0]}'"
            )
        table = Table("quantity", "measured", "to reach", "")
        missed = 0
        for quantity, measured, sign, bound in self._targets():
            good = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}[sign](measured, bound)
            missed += not good
            verdict = "reached" if good else "missed"
            table.add_row(quantity, f"{measured:.2f}", f"{sign} {bound:g}", verdict)
        console.print(table)
        return 1 if missed else 0

    def _targets(self) -> list[tuple[str, float, str, float]]:
        """Return each quantity with what was measured, and the bound that it is held against."""
        lin, flights = self._slopes("linear", "cpu"), self._slopes("flights", "cpu")
        cores = self._slopes("forest", "wall")
        small = self._least("small table", "wall")
        versions = self._least("versions in one pass", "cpu")
        own, own_forest = (self._slopes(f"{name}, own environment", "cpu")
                           for name in ("linear", "forest"))  # fmt: skip
        loads = self.measured["races"]["versions in one pass"]["loads"]
        direct, docs, pruned, scan = lin(c.DIRECT), lin(c.DOCS), lin(c.PRUNED), lin(c.SPARK_SCAN)
        loads_per_worker = loads["loads"] / loads["workers"] / loads["versions"]
        in_one_pass = versions(c.direct_of(4)) / versions(c.direct_of(1))
        over = small(c.JOB) - small(c.NO_MODEL)
        efficiency = cores(c.DIRECT_ALONE) / (2 * cores(c.DIRECT))
        begun = self.measured["starts"]["commands"]

        def started(name: str, unit: str = "wall") -> float:
            return float(min(begun[name][unit]))

        local, plain = starting.LOCAL, starting.PLAIN
        cold_cpu = started(local, "cpu") / started(plain, "cpu")
        of_segments = self.measured["segments"]["commands"]
        many, one = (min(of_segments[name]["wall"]) for name in (segments.MANY, segments.ONE))
        cold_large = started(starting.LOCAL_OF_LARGE) / started(starting.LIMIT_OF_LARGE)
        return [
            ("linear, direct scan / limit", direct / lin(c.LIMIT), "<=", 1.5),
            ("linear, pruned spark_udf / direct scan", pruned / direct, ">=", 12),
            ("linear, direct scan / Spark with no model", direct / lin(c.NO_MODEL), "<=", 1),
            ("linear, pruned spark_udf / Spark scan", pruned / scan, ">=", 3),
            ("linear, spark_udf of the docs / direct scan", docs / direct, ">=", 15),
            ("linear, Spark scan / mapInArrow by hand", scan / lin(c.BY_HAND), "<=", 1.05),
            *[
                (f"{name}, rate of direct scan / limit", 1 / self._over_limit(name), ">=", 0.95)
                for name in ("forest", *_BOOSTED)
            ],
            ("linear, direct scan, T(K=4) / T(1)", in_one_pass, "<=", 1.3),
            ("loads per worker and version", loads_per_worker, "=", 1),
            ("small table, s of a whole job over the bare Spark write", over, "<=", 2),
            ("forest, efficiency from one core to two", efficiency, ">=", 0.92),
            ("flights, pruned spark_udf / ours", flights(c.PRUNED) / flights(c.DIRECT), ">=", 1.5),
            *[
                (f"{name}, direct scan / limit", self._over_limit(name), "<=", 1.3)
                for name in _EMBEDDED
            ],
            (
                "linear, CPU-s over in process, own environment",
                own(c.OWN) - own(c.DIRECT),
                "<=",
                1.3,
            ),
            ("linear, env_manager / own environment", own(c.UDF_OWN) / own(c.OWN), ">=", 4),
            (
                "forest, rate of own environment / in process",
                own_forest(c.DIRECT) / own_forest(c.OWN),
                ">=",
                0.93,
            ),
            ("small job, cold / a plain program", started(local) / started(plain), "<=", 1.36),
            ("small job, cold / a plain program, CPU", cold_cpu, "<=", 1.59),
            ("1M linear rows, cold / the limit", cold_large, "<=", 2),
            ("many models, s per model", started(starting.MANY), "<=", 0.5),
            ("many models, s per model with Spark", started(starting.MANY_BY_SPARK), "<=", 2.5),
            ("compare of three versions, cold, s", started(starting.COMPARE), "<=", 15),
            ("one model per segment, 1,000 / one model", many / one, "<=", 3),
        ]

    def _over_limit(self, race: str) -> float:
        """Return the cost of a row by direct scan, over that of the limit in as many processes.

        Two processes that share a core's parts cost each other some per cent.
        """
        cost = self._slopes(race, "cpu")
        return cost(c.DIRECT) / cost(c.LIMIT_BOTH)

    def _slopes(self, race: str, unit: str) -> Callable[[Contender], float]:
        series = self.measured["races"][race]["contenders"]
        return lambda contender: float(series[contender.name][unit]["b"])

    def _least(self, race: str, unit: str) -> Callable[[Contender], float]:
        """Return the seconds, at most rows, of a contender's least disturbed round."""
        series = self.measured["races"][race]["contenders"]
        rows = str(self.measured["races"][race]["sizes"][-1])
        return lambda contender: float(min(series[contender.name][unit]["seconds"][rows]))

    def _markdown(self) -> list[str]:
        facts = ", ".join(f"{name} {value}" for name, value in self.measured["machine"].items())
        text = [
            "# Results",
            "",
            f"Written by `./scripts/bench.sh`: {facts}.",
            "",
            "T = a + b n over the least disturbed round of each size; n in millions of rows. What",
            "the columns mean, and what the limits consist of: [README.md](README.md).",
            "",
        ]
        for name, race in self.measured["races"].items():
            sizes = ", ".join(f"{rows:,}" for rows in race["sizes"])
            kind = "quick" if race["quick"] else "full"
            before, after = race["load"]
            facts = f"{sizes} rows; {race['rounds']} rounds ({kind}); load {before} to {after}."
            text += [f"## {name}", "", facts, ""]
            text += _as_markdown(*_lines(race))
            if name in _PLOTTED:
                text += [f"![CPU seconds by contender]({name}.svg)", ""]
        if starts := self.measured.get("starts"):
            before, after = starts["load"]
            text += [
                "## Commands from a cold start",
                "",
                f"A table of {starting.SMALL:,} linear rows where no other is named. Many models",
                f"are {starts['models']}, and seconds are of one. Load {before} to {after}.",
                "",
                *_as_markdown(("command", "wall s", "CPU-s"), starting.lines(starts)),
            ]
        if by_segment := self.measured.get("segments"):
            text += [
                "## One model per segment",
                "",
                f"{by_segment['rows']:,} linear rows of {by_segment['segments']:,} segments,",
                "each command from a cold start.",
                "",
                *_as_markdown(("command", "wall s", "CPU-s"), starting.lines(by_segment)),
            ]
        if cold := self.measured.get("cold"):
            text += ["## A fresh session for each contender", ""]
            small, large = cold["small"], cold["large"]
            text += [
                f"Two jobs of {small:,} linear rows; memory while scoring {large:,}.",
                "",
                *_as_markdown(_COLD, [_cold_line(*pair) for pair in cold["contenders"].items()]),
            ]
        return text


def _lines(race: dict[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return a header, and a line for each contender."""
    series = race["contenders"]
    *_, last = series.values()
    if "b" not in last["cpu"]:
        (rows,) = race["sizes"]
        return (
            ("contender", f"CPU-s, {rows:,} rows", "wall s"),
            [
                [name, *[f"{min(costs[u]['seconds'][str(rows)]):.2f}" for u in ("cpu", "wall")]]
                for name, costs in series.items()
            ],
        )
    lines = []
    for name, costs in series.items():
        cpu, wall = costs["cpu"], costs["wall"]
        times = f"{cpu['b'] / last['cpu']['b']:.2f}"
        lines.append(
            [
                name,
                f"{cpu['a']:.2f}",
                f"{cpu['b']:.2f}",
                times,
                f"{wall['a']:.2f}",
                f"{wall['b']:.2f}",
            ]
        )
    return _HEADER, lines


def _cold_line(name: str, session: dict[str, Any]) -> list[str]:
    jobs, units = ("start", "first", "second"), ("cpu", "wall")
    seconds = [session[job][unit] for job in jobs for unit in units]
    return [name, *[f"{second:.1f}" for second in seconds], f"{session['peak_mb']:,}"]


def _as_markdown(header: tuple[str, ...], lines: list[list[str]]) -> list[str]:
    rows = [header, ["---"] * len(header), *lines]
    return [*["| " + " | ".join(row) + " |" for row in rows], ""]


def _draw(name: str, series: dict[str, Any]) -> None:
    """Draw the marginal cost of each contender."""
    import matplotlib as mpl  # noqa: PLC0415 - after the measuring

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = name  # the same figures, the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = list(series)[::-1]
    costs = [series[contender]["cpu"]["b"] for contender in names]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.1))
    is_lakescore = [contender.startswith("lakescore") for contender in names]
    colours = ["tab:blue" if is_ours else "tab:gray" for is_ours in is_lakescore]
    axes.bar_label(axes.barh(names, costs, color=colours), fmt="%.2f", padding=3)
    axes.set_xlabel(f"CPU seconds per million rows more ({name})")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
