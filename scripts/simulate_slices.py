"""The simulation behind gates for slices: how often luck calls a slice worse, and what is found.

Draws holdouts with many slices, again and again, and lets the compare job's own code bound the
losses of all slices at once. docs/benchmark/slices.md is what it writes.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from rich.console import Console
from simulate import evaluated

from lakescore.comparing import bootstrapping
from lakescore.comparing.comparison import Comparison
from lakescore.comparing.evaluating import Part
from lakescore.comparing.protecting import SliceCheck, SliceLoss, Verdict, slice_losses
from lakescore.comparing.ranking import Interval, Standing
from lakescore.options import CompareOptions

FOLDER = Path(__file__).parents[1] / "docs" / "benchmark"
LEVEL, BOOTSTRAPS, SLICES = 0.95, 400, 50
BASELINE, CANDIDATE = "baseline", "candidate"
WRONG = 1.2
"""An error beyond this, in standard deviations of what both versions share, is a wrong decision."""
Array = np.ndarray[Any, Any]

console = Console(highlight=False)


@dataclass(frozen=True)
class World:
    """A holdout of slices in which two versions are equally good, except perhaps in the first."""

    name: str
    metrics: tuple[str, ...]
    sizes: tuple[int, ...]
    shift: float = 0.0
    """By how many standard deviations of its errors the candidate is off in the first slice."""
    columns: int = 1
    """In how many columns of slices a row is."""
    repeats: int = 1
    """Of the number of trials, because the first world is the one that is asked for."""

    def losses(self, random: np.random.Generator) -> tuple[list[Array], list[Array]]:
        """Return by column the slice of each row, and by version its errors."""
        rows = sum(self.sizes)
        slices = [np.repeat(np.arange(len(self.sizes)), self.sizes)]
        slices += [random.permutation(slices[0]) for _ in range(self.columns - 1)]
        shared = random.normal(0.0, 1.0, rows)
        errors = [shared + random.normal(0.0, 0.5, rows) for _ in range(2)]
        if "accuracy" in self.metrics:  # 1 is a wrong decision
            return slices, [(np.abs(error) > WRONG).astype(float) for error in errors]
        if len(set(self.sizes)) > 1:  # rare large errors, as delays have
            errors = [error * random.gamma(2.0, 0.5, rows) for error in errors]
        errors[1][slices[0] == 0] += self.shift * np.std(errors[1])
        return slices, errors


EQUAL = (2000,) * SLICES
MIXED = tuple(int(rows) for rows in np.geomspace(100, 10_000, SLICES))
NULLS = (
    World("50 slices of 2,000 rows, rmse", ("rmse",), EQUAL, repeats=2),
    World("50 slices of 100 to 10,000 rows, rmse, heavy tails", ("rmse",), MIXED),
    World("50 slices of 100 rows, rmse", ("rmse",), (100,) * SLICES),
    World("50 slices of 2,000 rows, accuracy", ("accuracy",), EQUAL),
    World("2 columns of 25 slices of 2,000 rows, rmse and mae", ("rmse", "mae"), EQUAL[:25],
          columns=2),
)  # fmt: skip
SHIFTED = tuple(
    World(f"{shift} standard deviations", ("rmse",), EQUAL, shift=shift)
    for shift in (0.1, 0.2, 0.5)
)


def main() -> None:
    """Run it and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    draws = bootstrapping.draws(BOOTSTRAPS, 0).astype(np.float64)
    check_sums(draws)
    false, found = [], []
    for number, world in enumerate(NULLS):
        verdicts = [tried(world, number, n, draws) for n in range(trials * world.repeats)]
        shares = {
            name: float(np.mean([any(part == name for part in one) for one in verdicts]))
            for name in ("worse", "safe")
        }
        false.append({"holdout": world.name, "trials": len(verdicts), **shares})
        console.print(f"simulate: {false[-1]}")
    for number, world in enumerate(SHIFTED, len(NULLS)):
        firsts = [tried(world, number, n, draws)[0] for n in range(trials // 4)]
        share = float(np.mean([verdict == "worse" for verdict in firsts]))
        found.append({"shift": world.name, "trials": len(firsts), "found": share})
        console.print(f"simulate: {found[-1]}")
    write(false, found, trials)


def tried(world: World, number: int, trial: int, draws: Array) -> list[Verdict]:
    """Return the verdicts on all slices of a holdout of *world*, where no loss is allowed."""
    random = np.random.default_rng([number, trial])
    slices, errors = world.losses(random)
    bucket = random.integers(0, bootstrapping.BUCKETS, len(errors[0]))
    parts = [part for column in slices for part in parts_of(world, column, errors, bucket, draws)]
    losses = slice_losses(as_comparison(world, parts), CANDIDATE)
    verdicts: list[Verdict] = []
    for metric, found in losses.items():
        check = SliceCheck(
            metric=metric, limit=0.0, is_relative=False, greater_is_better=metric == "accuracy",
            losses=found,
        )  # fmt: skip
        verdicts += [check.verdict(one) for one in sorted(found, key=_number)]
    return verdicts


def _number(found: SliceLoss) -> int:
    return int(found.slice.removeprefix("s="))


def parts_of(
    world: World, column: Array, errors: list[Array], bucket: Array, draws: Array
) -> list[Part]:
    """Return the slices of a column with the bootstraps of their metrics."""
    place = column * bootstrapping.BUCKETS + bucket
    shape = (len(world.sizes), bootstrapping.BUCKETS)
    rows = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape) @ draws
    by_metric: dict[str, dict[str, Array]] = {}
    for metric in world.metrics:
        for uri, error in zip((BASELINE, CANDIDATE), errors, strict=True):
            terms = error**2 if metric == "rmse" else np.abs(error)
            sums = np.bincount(place, terms, shape[0] * shape[1]).reshape(shape) @ draws
            mean = sums / rows
            values = {"rmse": np.sqrt(mean), "mae": mean, "accuracy": 1 - mean}[metric]
            by_metric.setdefault(metric, {})[uri] = values
    return [
        Part(
            by="s",
            value=str(n),
            scope="common",
            rows=dict.fromkeys((BASELINE, CANDIDATE), size),
            standings={metric: _standing(metric) for metric in world.metrics},
            scored=dict.fromkeys((BASELINE, CANDIDATE), size),
            vectors={
                m: {uri: v[n] for uri, v in by_uri.items()} for m, by_uri in by_metric.items()
            },
        )
        for n, size in enumerate(world.sizes)
    ]


def _standing(metric: str) -> Standing:
    unknown = dict.fromkeys((BASELINE, CANDIDATE), Interval(0.0, 0.0, 0.0))
    return Standing(unknown, {}, metric == "accuracy", (), {}, 0.0)


def as_comparison(world: World, parts: list[Part]) -> Comparison:
    """Return what `slice_losses` reads of a comparison."""
    options = CompareOptions(
        label="y", confidence=LEVEL, bootstraps=BOOTSTRAPS, protected=world.metrics
    )
    candidates = SimpleNamespace(others=[CANDIDATE], gated=CANDIDATE, baseline=BASELINE)
    return cast(
        "Comparison",
        SimpleNamespace(
            options=options, candidates=candidates, evaluation=SimpleNamespace(parts=parts)
        ),
    )


def check_sums(draws: Array) -> None:
    """Check that the values of slices here are those that the job's workers give."""
    world, random = World("", ("rmse", "mae"), (500, 300)), np.random.default_rng(0)
    (column,), errors = world.losses(random)
    bucket = random.integers(0, bootstrapping.BUCKETS, len(column))
    for part in parts_of(world, column, errors, bucket, draws):
        inside = column == int(part.value or 0)
        predicted = [error[inside] for error in errors]
        job = evaluated(
            "regression", np.zeros(inside.sum()), predicted, bucket[inside], draws.astype(np.uint8)
        )
        for metric, by_uri in part.vectors.items():
            for values, of_job in zip(by_uri.values(), job, strict=True):
                np.testing.assert_allclose(values, of_job[metric], rtol=1e-9)


def write(false: list[dict[str, Any]], found: list[dict[str, Any]], trials: int) -> None:
    """Write the figures and a table of them."""
    facts = {"level": LEVEL, "bootstraps": BOOTSTRAPS, "nothing_changed": false, "found": found}
    (FOLDER / "slices.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    chance = 1.96 * np.sqrt(LEVEL * (1 - LEVEL) / trials)
    caption = (
        f"`python scripts/simulate_slices.py --trials {trials}`: {BOOTSTRAPS} bootstraps, "
        f"confidence {LEVEL:.0%}, `max_loss: 0`. Chance alone moves a figure of {trials:,} "
        f"holdouts by {chance:.1%}."
    )
    nothing_changed = (
        "Two versions that are equally good in all slices. A gate should call any slice worse in "
        "5 % of the holdouts. It should also call any slice safe in 5 %, because the loss is "
        "exactly the limit."
    )
    shifted = (
        "50 slices of 2,000 rows. In one of them, the candidate's predictions are shifted by a "
        "share of the standard deviation of its errors:"
    )
    lines = ["# How often a gate for slices is wrong, and what it finds", "", caption, ""]
    lines += [nothing_changed, ""]
    lines += ["| holdout | holdouts | any slice is called worse | any slice is called safe |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {one['holdout']} | {one['trials']:,} | {one['worse']:.1%} | {one['safe']:.1%} |"
        for one in false
    ]
    lines += ["", shifted, "", "| shift | holdouts | the slice is called worse |", "|---|---|---|"]
    lines += [f"| {one['shift']} | {one['trials']:,} | {one['found']:.1%} |" for one in found]
    (FOLDER / "slices.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
