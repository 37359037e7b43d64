"""Run the benchmark and write what it measured, or hold the last run against the targets."""

import argparse
import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import segments, starting
from bench.racing import COLD, LINEAR, RACES, Meeting
from bench.reporting import Results

_STARTS, _SEGMENTS = "starts", "segments"
_PACKAGES = ("pyspark", "delta-spark", "mlflow", "scikit-learn", "numpy", "pandas", "pyarrow",
             "deltalake", "polars")  # fmt: skip


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="bench.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what the targets need, small")
    parser.add_argument(
        "--check", action="store_true", help="print the targets with what the last run measured"
    )
    parser.add_argument(
        "--only", metavar="BEGINNING", help="these races alone; the results keep all others"
    )
    parser.add_argument("--rounds", type=int, help="rounds that count")
    asked = parser.parse_args()
    if asked.check:
        raise SystemExit(Results.last().check())
    rounds = asked.rounds or (2 if asked.quick else 3)
    results = Results(dict(Results.last().measured) if asked.only else {})
    results.measured["machine"] = machine()
    measure(results, asked.only or "", rounds, quick=asked.quick)


def measure(results: Results, only: str, rounds: int, *, quick: bool) -> None:
    """Run the races whose names begin with *only*; what each measured is written when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="lakescore-bench-"))
    os.environ["LAKESCORE_HOME"] = str(folder)
    os.environ["OMP_NUM_THREADS"] = "1"  # everywhere, as Spark sets it for a task of one core
    races = [r for r in RACES if r.name.startswith(only) and (r.quick or not quick)]
    meeting = Meeting(folder, rounds=rounds)
    try:
        workloads = [race.workload for race in races]
        if cold := COLD.startswith(only) and not quick:
            workloads.append(LINEAR)
        starts, by_segment = _STARTS.startswith(only), _SEGMENTS.startswith(only)
        if starts or by_segment:
            workloads.append(LINEAR)
        for workload in {workload.name: workload for workload in workloads}.values():
            workload.register()
        for race in races:
            results.add(race.name, meeting.race(race, race.quick if quick else None))
            results.show(race.name)
        meeting.close()
        if starts:
            results.measured["starts"] = starting.measure(folder, rounds, quick=quick)
            results.write()
        if by_segment:
            results.measured["segments"] = segments.measure(folder, rounds, quick=quick)
            results.write()
        if cold:
            results.measured["cold"] = meeting.cold()
            results.write()
    finally:
        meeting.close()
        shutil.rmtree(folder)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "memory_gb": round(pages / 2**30),
        "python": platform.python_version(),
        **{name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
