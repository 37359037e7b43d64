"""What a person sees: one line a stage, a bar while Spark scores, one line for an error.

Everything goes to standard error but the receipt, which is the last line of standard output. Lines
may be JSON instead, for machines that collect them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakescore.encoding import as_json
from lakescore.errors import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

    from lakescore.errors import LakescoreError
    from lakescore.runner import Runner

_SECONDS_BETWEEN_LOOKS = 0.25
_ROWS_SHOWN = 5


def own_stderr() -> None:
    """Give a driver under spark-submit a standard error of its own.

    Spark's launcher joins it with standard output (`PythonRunner` redirects the error stream), and
    machines that read the receipt want it alone. The launcher is the parent process, and
    spark-submit.sh gives it a pipe, which Linux lets its children open.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    launchers = f"/proc/{os.getppid()}/fd/2"
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.stat(launchers).st_mode):  # noqa: PTH116 - no path, a stream
            pipe = os.open(launchers, os.O_WRONLY)
            os.dup2(pipe, sys.stderr.fileno())
            os.close(pipe)


class _Laps:
    """How long the stages of the running job took."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.begun = time.monotonic()
        self.seconds: dict[str, float] = {}


_laps = _Laps()
_always: dict[str, Any] = {}
_context: dict[str, Any] | None = None
"""What is known of the running job, where its lines are JSON."""
_name = ""
"""Of the running job, where it is one of several."""


def log_as_json(**facts: object) -> None:
    """Say everything from now on as JSON, a document a line, with *facts* on each.

    So do Python's warnings, and what is logged without a handler of its own.
    """
    global _context  # noqa: PLW0603 - as the terminal, there is one in a process
    _always.update(facts)
    _context = dict(facts)
    logging.basicConfig(handlers=[_Saying()])
    logging.captureWarnings(capture=True)


def is_json() -> bool:
    """Tell whether what is said is JSON."""
    return _context is not None


class _Saying(logging.Handler):
    """Says what is logged as `stage` says its lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage(), level=record.levelname, logger=record.name)


def stage(text: str, *, ends: str | None = None, **facts: object) -> None:
    """Say in one line what was done.

    Args:
        text: the line.
        ends: the name of the stage that it ends, whose seconds `laps` tells.
        facts: what stands on all lines from now on, where these are JSON.
    """
    if ends is not None:
        now = time.monotonic()
        _laps.seconds[ends] = round(now - _laps.begun, 2)
        _laps.begun = now
    if _context is not None:
        _context.update(facts)
    _say(text)


def begin(name: str = "") -> None:
    """Begin a job: count the seconds of its stages.

    Args:
        name: it stands on all lines of a job that is one of several.
    """
    global _context, _name  # noqa: PLW0603 - there is one job at a time in a process
    _laps.begin()
    _name = name
    if _context is not None:
        _context = _always | ({"name": name} if name else {})


def laps() -> dict[str, float]:
    """Return the seconds of the stages that have ended."""
    return dict(_laps.seconds)


def show_error(error: LakescoreError) -> None:
    """Say in one line what is wrong."""
    _say(str(error), level="ERROR", exit_code=error.exit_code)


def show_slices(receipt: dict[str, Any]) -> None:
    """Say of each slice what became of it, where lines are JSON; the receipt says it to people."""
    if _context is not None:
        for each in receipt.get("slices", []):
            _say(f"slice {each['slice']} is {each['status']}", **each)


def _say(text: str, *, level: str = "INFO", logger: str = "lakescore", **facts: object) -> None:
    if _context is None:
        of_job = f"[{_name}] " if _name else ""
        line = f"{'error' if level == 'ERROR' else 'lakescore'}: {of_job}{text}"
    else:  # the keys are those of Spark's own structured log
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        context = _context | facts
        whole = {"ts": now, "level": level, "msg": text, "context": context, "logger": logger}
        line = as_json(whole)
    sys.stderr.write(f"{line}\n")  # at once: other processes write there too
    sys.stderr.flush()


def show_receipt(receipt: dict[str, Any]) -> None:
    """Write *receipt* as JSON as the last line of standard output."""
    sys.stderr.flush()
    sys.stdout.write(f"{as_json(receipt)}\n")
    sys.stdout.flush()


def show_plan(receipt: Mapping[str, Any]) -> None:
    """Say for a person what a score job would do, with a few of the rows that were tried."""
    from rich import box  # noqa: PLC0415 - for a plan alone
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    would = receipt["would"]
    slices = list(would["slices"])
    features = [
        f"{each['name']}{_from(each)}: {each['type']}{_null(each)}" for each in receipt["features"]
    ]
    casts = [f"{name} from {one} to {other}" for name, (one, other) in receipt["casts"].items()]
    here = [
        f"{each['package']} {each['here'] or 'is missing'}, asked for {each['asked']}"
        for each in receipt["environment"]
    ]
    lines = {
        "would load": would["load"],
        "would write": f"{would['rows']} rows of {listed(slices, most=4)} into "
        f"{receipt['output']['table']} ({would['write_mode']}, commits: {would['commits']})",
        "columns": listed(receipt["output"]["columns"]),
        "features": listed(features),
        "casts": listed(casts),
        "calls": f"about {would['batches']} batches, in {would['tasks']} tasks",
        "environment": listed(here) if here else "as the version asks for",
    }
    for name, text in lines.items():
        stage(f"{name}: {text}")
    shown = receipt["probe"][:_ROWS_SHOWN]
    table = Table(*map(escape, shown[0] if shown else ()), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in shown:
        table.add_row(*[escape(str(value)) for value in row.values()])
    Console(file=sys.stderr).print(table)


def _from(feature: Mapping[str, Any]) -> str:
    return "" if feature["column"] == feature["name"] else f" from {feature['column']}"


def _null(feature: Mapping[str, Any]) -> str:
    return "" if feature["null"] == "model" else f" (null: {feature['null']})"


def write_receipt(receipt: dict[str, Any], path: Path) -> None:
    """Write *receipt* to *path*, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(as_json(receipt, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


@contextlib.contextmanager
def progress(runner: Runner, rows: int) -> Iterator[None]:
    """Show tasks done, rows per second and time left while the body runs, in a terminal only.

    Args:
        runner: it knows the tasks.
        rows: what the body scores.
    """
    terminal, counted = _terminal(), runner.progress()
    if terminal is None or counted is None or _name:  # several bars would write over one another
        yield
        return
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(counted, rows, terminal, finished), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        terminal.close()


def _terminal() -> TextIO | None:
    """Open the terminal, if a person sits at one.

    spark-submit gives the driver pipes even in a terminal, so spark-submit.sh, which can tell,
    says so in `LAKESCORE_TERMINAL`.
    """
    if not (sys.stderr.isatty() or os.environ.get("LAKESCORE_TERMINAL")):
        return None
    try:
        return open("/dev/tty", "w", encoding="utf-8")  # noqa: PTH123 - closed by progress
    except OSError:
        return None


def _watch(
    counted: Callable[[], tuple[int, int]], rows: int, terminal: TextIO, finished: threading.Event
) -> None:
    from rich.console import Console  # noqa: PLC0415 - needed in a terminal only
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("scoring"),
        BarColumn(),
        TextColumn("task {task.completed:,.0f}/{task.fields[tasks]:,.0f}"),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    width = os.get_terminal_size(terminal.fileno()).columns or 80
    console = Console(file=terminal, force_terminal=True, width=width)
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=None, tasks=0, rate=0.0)
        while not finished.wait(_SECONDS_BETWEEN_LOOKS):
            done, tasks = counted()
            if tasks:
                rate = rows * done / tasks / (time.monotonic() - started)
                bar.update(task, completed=done, total=tasks, tasks=tasks, rate=rate)
