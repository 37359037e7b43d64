"""The simulation behind the alarms of the monitor job: how often chance alarms, and what is found.

Draws the counts of a baseline and of slices from a known world, again and again, and lets the job's
own code (without Spark) judge them. docs/benchmark/drift.md has what it writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from lakescore.monitoring import chance, distances

FILE = Path(__file__).parents[1] / "docs" / "benchmark" / "drift.md"
LEVEL = 0.05
QUANTILES = (0.01, 0.05, *(n / 10 for n in range(1, 10)), 0.95, 0.99)
SAMPLE = 50_000
FEATURES = (20, 200)
ROWS = (1_000, 10_000, 100_000, 1_000_000)
BASELINE_ROWS = 1_000_000
ZIPF = 1.2
Array = np.ndarray[Any, np.dtype[np.float64]]
console = Console(highlight=False)


def main() -> None:
    """Run it and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    intro = (
        f"`scripts/simulate_drift.py --trials {trials}` wrote this page. The baseline has "
        f"{BASELINE_ROWS:,} rows. A quarter of the features are categories whose frequencies fall "
        "by Zipf's law, with 200 values. The level is 5 %."
    )
    days = (
        "Features of a day are shifted by the day's own weather (a normal number for all features "
        "together, and one for each feature, both with 0.3 standard deviations). The baseline has "
        "60 days of 1,000 rows."
    )
    lines = [
        "# False alarms and power of the monitor job",
        "",
        intro,
        "",
        "## Rows that are independent (`chance: rows`)",
        "",
        "| features | rows of a slice | slices that alarm although nothing has changed |",
        "|---|---|---|",
    ]
    for features in FEATURES:
        for rows in ROWS:
            random = np.random.default_rng([features, rows])
            alarms = sum(judge(random, features, rows) for _ in range(trials))
            lines.append(say(f"| {features} | {rows:,} | {percent(alarms, trials)} |"))
    random = np.random.default_rng(7)
    lines += ["", "One of 200 features is larger by a part of its standard deviation:", ""]
    lines += ["| rows of a slice | shift | slices that alarm for this feature |", "|---|---|---|"]
    for rows, shift in ((1_000, 0.2), (10_000, 0.2), (100_000, 0.2), (100_000, 0.05)):
        alarms = sum(finds(random, 200, rows, shift) for _ in range(trials // 10))
        lines.append(say(f"| {rows:,} | {shift} | {percent(alarms, trials // 10)} |"))
    lines += [
        "",
        "## Rows that share something of their day",
        "",
        days,
        "",
        "| features | `chance: rows` | `chance: slices` |",
        "|---|---|---|",
    ]
    for features in FEATURES:
        random = np.random.default_rng([features, 3])
        verdicts = np.array([judge_days(random, features) for _ in range(trials // 4)])
        both = " | ".join(percent(int(v), len(verdicts)) for v in verdicts.sum(axis=0))
        lines.append(say(f"| {features} | {both} |"))
    FILE.write_text("\n".join(lines) + "\n")
    console.print(f"written to {FILE}")


def say(line: str) -> str:
    """Show a line, and return it."""
    console.print(line)
    return line


def percent(count: int, of: int) -> str:
    """Return a share with its standard error."""
    share = count / of
    return f"{share:.1%} ± {np.sqrt(max(share * (1 - share), 1 / of) / of):.1%}"


def judge(random: np.random.Generator, features: int, rows: int) -> bool:
    """Return whether a slice alarms, of which no feature has changed."""
    p_values = np.array([p_of(n, *draw(random, n, rows, 0.0)) for n in range(features)])
    return bool(chance.holm(p_values).min() <= LEVEL)


def finds(random: np.random.Generator, features: int, rows: int, shift: float) -> bool:
    """Return whether a slice alarms for its first feature, which alone has changed."""
    p_values = np.array(
        [p_of(n, *draw(random, n, rows, 0.0 if n else shift)) for n in range(features)]
    )
    return bool(chance.holm(p_values)[0] <= LEVEL)


def p_of(feature: int, before: Array, now: Array) -> float:
    """Return the p-value of a feature's counts, as the job calculates it."""
    if feature % 4 == 3:  # noqa: PLR2004 - a quarter
        # No value of so few has only one row, so a new value would have no explanation.
        return chance.joined(chance.p_value(before, now, (feature,)), 1.0)
    sizes = (int(before.sum()), int(now.sum()))
    beyond = chance.p_beyond(*sizes, int(now[0]), int(now[-1]))
    inner = [_without_outside(counts) for counts in (before, now)]
    return chance.joined(chance.p_value(inner[0], inner[1], (feature,)), beyond)


def _without_outside(counts: Array) -> Array:
    """Return the counts with those outside of the baseline's range in the outermost bins."""
    inner = counts[1:-1].astype(np.float64)
    inner[0] += counts[0]
    inner[-1] += counts[-1]
    return inner


def draw(random: np.random.Generator, feature: int, rows: int, shift: float) -> tuple[Any, Any]:
    """Return the counts of a feature in bins: of the baseline, and of a slice."""
    if feature % 4 == 3:  # noqa: PLR2004 - a quarter
        shares = distances.shares(np.arange(1, 201, dtype=np.float64) ** -ZIPF)
        before = random.multinomial(BASELINE_ROWS, shares)
        now = random.multinomial(rows, shares)
        listed = np.argsort(-before)[:50]
        listed = listed[before[listed] >= 20]  # noqa: PLR2004 - as the job has it
        pair = [np.append(c[listed], c.sum() - c[listed].sum()) for c in (before, now)]
        return pair[0], pair[1]
    inner = edges_of(random)
    # The smallest and the largest number of the baseline, as order statistics.
    ends = stats.norm.ppf(random.beta(1, BASELINE_ROWS, 2)) * [1, -1]
    edges = np.concatenate([ends[:1], inner, ends[1:]])
    known = np.diff(np.concatenate([[0.0], stats.norm.cdf(inner), [1.0]]))
    moved = np.diff(np.concatenate([[0.0], stats.norm.cdf(edges - shift), [1.0]]))
    before = random.multinomial(BASELINE_ROWS, known)
    return np.concatenate([[0], before, [0]]), random.multinomial(rows, moved)


def edges_of(random: np.random.Generator) -> Array:
    """Return quantiles of a sample of standard normal numbers, as edges of bins.

    They are drawn as order statistics of uniform numbers, which costs less than the sample.
    """
    ranks = np.array([round(q * SAMPLE) for q in QUANTILES])
    gaps = random.gamma(np.diff(np.concatenate([[0], ranks, [SAMPLE + 1]])))
    edges: Array = stats.norm.ppf(np.cumsum(gaps)[:-1] / gaps.sum())
    return edges


def judge_days(random: np.random.Generator, features: int) -> tuple[bool, bool]:
    """Return whether a usual day alarms: by independent rows, and among the days of a baseline."""
    days, rows = 60, 1_000
    own, joint = random.normal(0, 0.3, (days + 1, features)), random.normal(0, 0.3, (days + 1, 1))
    shifts = own + joint
    inner = stats.norm.ppf(QUANTILES) * np.sqrt(1 + 2 * 0.3**2)
    p_values, apart = np.empty(features), np.empty((days + 1, features))
    for n in range(features):
        extremes = stats.norm.ppf(random.random((days, 2)) ** (1 / rows)) * [-1, 1]
        ends = shifts[:-1, [n]] + extremes  # of each day of the baseline
        edges = np.concatenate([[ends[:, 0].min()], inner, [ends[:, 1].max()]])
        below = stats.norm.cdf(edges[None, :] - shifts[:, [n]])
        shares = np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))))
        counts = random.multinomial(rows, distances.shares(np.clip(shares, 0, None))).astype(float)
        counts[:-1] = np.pad([_without_outside(day) for day in counts[:-1]], ((0, 0), (1, 1)))
        p_values[n] = p_of(0, counts[:-1].sum(axis=0), counts[-1])
        pool = distances.shares(counts.sum(axis=0))
        apart[:, n] = distances.jensen_shannon(pool, distances.shares(counts))
    return (
        bool(chance.holm(p_values).min() <= LEVEL),
        bool(chance.among_slices(apart).min() <= LEVEL),
    )


if __name__ == "__main__":
    main()
