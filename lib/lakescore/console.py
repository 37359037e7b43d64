"""What a person sees: one line a stage, a bar while Spark scores, one line for an error.

Everything goes to standard error but the receipt, which is the last line of standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from lakescore.errors import LakescoreError

_SECONDS_BETWEEN_LOOKS = 0.25


def stage(text: str) -> None:
    """Say in one line what was done."""
    print(f"lakescore: {text}", file=sys.stderr, flush=True)  # noqa: T201 - here is the terminal


def show_error(error: LakescoreError) -> None:
    """Say in one line what is wrong."""
    print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - here is the terminal


def show_receipt(receipt: dict[str, Any], path: Path | None) -> None:
    """Write *receipt* as JSON to *path*, if given, and as the last line of standard output."""
    text = json.dumps(receipt, default=str)
    if path is not None:
        write_receipt(receipt, path)
    sys.stderr.flush()
    print(text, flush=True)  # noqa: T201 - here is the terminal


def write_receipt(receipt: dict[str, Any], path: Path) -> None:
    """Write *receipt* to *path*, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(receipt, default=str, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


class Progress:
    """Rows done of rows in all, moved by slices and, within a slice, by Spark's tasks."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._current = total, 0, 0

    @contextlib.contextmanager
    def over(self, rows: int) -> Iterator[None]:
        """Count a slice of *rows* rows: by Spark's tasks while the body runs, whole after it."""
        self._current = rows
        yield
        self._done, self._current = self._done + rows, 0

    def rows(self, tasks_done: int, tasks: int) -> int:
        """Return the rows done, with the current slice's share by its tasks."""
        share = min(tasks_done / tasks, 1.0) if tasks else 0.0
        return min(self._done + int(self._current * share), self._total)


@contextlib.contextmanager
def progress(spark: SparkSession, total: int) -> Iterator[Progress]:
    """Show tasks done, rows per second and time left while the body runs, in a terminal only."""
    state = Progress(total)
    terminal = _terminal()
    if terminal is None:
        yield state
        return
    finished = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(spark.sparkContext, state, total, terminal, finished), daemon=True
    )
    watcher.start()
    try:
        yield state
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
        return open("/dev/tty", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - closed by progress
    except OSError:
        return None


def _watch(
    context: SparkContext, state: Progress, total: int, terminal: TextIO, finished: threading.Event
) -> None:
    from rich.console import Console  # noqa: PLC0415 - needed in a terminal only
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    console = Console(
        file=terminal,
        force_terminal=True,
        width=os.get_terminal_size(terminal.fileno()).columns or 80,
    )
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TextColumn("tasks {task.fields[tasks]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=total, rate=0.0, tasks="0/0")
        while not finished.wait(_SECONDS_BETWEEN_LOOKS):
            done, all_tasks = _tasks(context)
            rows = state.rows(done, all_tasks)
            rate = rows / (time.monotonic() - started)
            bar.update(task, completed=rows, rate=rate, tasks=f"{done}/{all_tasks}")
        bar.update(task, completed=state.rows(0, 0))


def _tasks(context: SparkContext) -> tuple[int, int]:
    tracker = context.statusTracker()
    stages = [tracker.getStageInfo(each) for each in tracker.getActiveStageIds()]
    running = [each for each in stages if each is not None]
    return sum(s.numCompletedTasks for s in running), sum(s.numTasks for s in running)
