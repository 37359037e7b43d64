"""Processes in which contenders run, measured from outside: CPU, wall time, memory."""

import multiprocessing
import os
import shutil
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.contenders import CONTENDERS, Contender, Facts, Place, Setting, close_pool
from bench.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_EVERY = 0.05
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Cost:
    """What something took."""

    cpu: float
    """Seconds, of the process and all its descendants: JVM and workers included."""
    wall: float


class Session:
    """A process of its own, in which Spark is started where the place asks for it."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self._folder = place, folder
        self._runs = 0
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        log = folder / f"{place}-{time.monotonic_ns()}.log"
        self._process = context.Process(target=_serve, args=(other_end, place, log))
        started = time.perf_counter()
        self._process.start()
        other_end.close()
        self._log = log
        self._answer()
        self.start = Cost(_cpu({}, _tree(self._pid)), time.perf_counter() - started)

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    def run(self, contender: Contender, workload: Workload, source: str) -> tuple[Cost, Facts]:
        """Run *contender* once; what it wrote is removed."""
        with self.output(contender, workload, source) as (_, cost, facts):
            return cost, facts

    @contextmanager
    def output(
        self, contender: Contender, workload: Workload, source: str
    ) -> "Iterator[tuple[str, Cost, Facts]]":
        """Run *contender* once and give the table that it wrote, what it took and what it said."""
        self._runs += 1
        target = str(self._folder / f"output-{self._pid}-{self._runs}")
        before, wall = _tree(self._pid), time.perf_counter()
        self._connection.send((contender.name, workload.name, source, target))
        facts = self._answer()
        cost = Cost(_cpu(before, _tree(self._pid)), time.perf_counter() - wall)
        try:
            yield target, cost, facts
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def peak(self, contender: Contender, workload: Workload, source: str) -> float:
        """Run *contender* once and return the most memory of the process tree meanwhile, in MB.

        Memory counts by its proportional set size: what processes share counts once. Looking costs
        CPU, so this run's time does not count.
        """
        most, done = 0.0, threading.Event()

        def look() -> None:
            nonlocal most
            while not done.wait(_EVERY):
                most = max(most, sum(_pss(pid) for pid, _ in _tree(self._pid)) / 2**10)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            self.run(contender, workload, source)
        finally:
            done.set()
            looking.join()
        return most

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._connection.send(None)
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> Facts:
        try:
            answer = self._connection.recv()
        except EOFError:
            answer = "the process ended"
        if isinstance(answer, str):
            raise SystemExit(f"error: {answer}\n{self._log.read_text()[-4000:]}")
        return dict(answer)


class Sessions:
    """One session a place, started when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._open = folder, dict[Place, Session]()

    def at(self, place: Place) -> Session:
        """Return the session of *place*."""
        if place not in self._open:
            self._open[place] = Session(place, self._folder)
        return self._open[place]

    def close(self) -> None:
        """End all."""
        for session in self._open.values():
            session.close()
        self._open.clear()


def _serve(connection: Connection, place: Place, log: Path) -> None:
    """Run what the connection asks for, until it asks for nothing."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    spark: Any = None
    try:
        if place.startswith("local"):
            from lakescore.session import start  # noqa: PLC0415 - not every place has Spark

            conf = ROOT / "conf" / "spark"
            properties = log.with_suffix(".conf")
            master = f"spark.master {place.replace(']', ',4]')}"
            properties.write_text(f"{(conf / 'local.conf').read_text()}\n{master}\n")
            shutil.copy(conf / "log4j2.properties", log.parent)
            spark = start("lakescore bench", properties=properties)
        connection.send({})
        while (asked := connection.recv()) is not None:
            name, workload, source, target = asked
            setting = Setting(spark, WORKLOADS[workload], source, target)
            connection.send(CONTENDERS[name].run(setting) or {})
    except Exception:  # noqa: BLE001 - the parent says it
        connection.send(traceback.format_exc())
    finally:
        close_pool()
        if spark is not None:
            spark.stop()


@dataclass(frozen=True)
class _Process:
    parent: int
    own: int
    """Ticks of CPU."""
    waited: int
    """Ticks of the children that it waited for when they ended."""


_Tree = dict[tuple[int, int], _Process]
"""Processes by their number and their start, since numbers come again."""


def _tree(root: int) -> _Tree:
    """Return the process *root* and its descendants."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        own, waited = (sum(map(int, fields[n : n + 2])) for n in (11, 13))
        stats[int(path.parent.name), int(fields[19])] = _Process(int(fields[1]), own, waited)
    tree: _Tree = {}
    queue = [root]
    while queue:
        pid = queue.pop()
        tree |= {key: process for key, process in stats.items() if key[0] == pid}
        queue += [key[0] for key, process in stats.items() if process.parent == pid]
    return tree


def _cpu(before: _Tree, after: _Tree) -> float:
    """Return the CPU seconds between.

    Spark ends workers that were idle, whose earlier time then counts as waited for, or is lost.
    """
    ticks = 0
    for key, now in after.items():
        then = before.get(key, _Process(0, 0, 0))
        ended = [p for k, p in before.items() if p.parent == key[0] and k not in after]
        known = then.waited + sum(process.own + process.waited for process in ended)
        ticks += now.own - then.own + max(0, now.waited - known)
    return ticks / os.sysconf("SC_CLK_TCK")


def _pss(pid: int) -> float:
    """Return a process's proportional set size in KB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("Pss:")), 0.0)
