"""The output of a job: one line a stage, a bar while it scores, one line for an error.

The receipt is the last line of standard output; everything else goes to standard error. Lines can
be JSON instead, for machines that collect them.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import stat
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakescore.encoding import as_json
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

    from lakescore.errors import LakescoreError
    from lakescore.runner import Runner

_SECONDS_BETWEEN_UPDATES = 0.25
_ROWS_SHOWN = 5


def own_stderr() -> None:
    """Separate the standard error of a driver under spark-submit from its standard output.

    Spark's launcher joins the two (`PythonRunner` redirects the error stream), but machines that
    read the receipt need standard output alone. The launcher is the parent process, and
    spark-submit.sh gives it a pipe as standard error. Linux lets child processes open that pipe.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    launcher_stderr = f"/proc/{os.getppid()}/fd/2"
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.stat(launcher_stderr).st_mode):  # noqa: PTH116 - no path, a stream
            pipe = os.open(launcher_stderr, os.O_WRONLY)
            os.dup2(pipe, sys.stderr.fileno())
            os.close(pipe)


class _Laps:
    """The seconds that the stages of the running job took."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.begun = time.monotonic()
        self.seconds: dict[str, float] = {}


_laps = _Laps()
_process_facts: dict[str, Any] = {}
_context: dict[str, Any] | None = None
"""The facts of the running job; None if lines are not JSON."""
_name = ""
"""The name of the running job, if it is one of several."""


def log_as_json(**facts: object) -> None:
    """Write all lines from now on as JSON, one document a line, with *facts* in each.

    Python's warnings, and records of loggers that have no handler, are written in the same way.
    """
    global _context  # noqa: PLW0603 - a process has one, as it has one terminal
    _process_facts.update(facts)
    _context = dict(facts)
    logging.basicConfig(handlers=[_LineHandler()])
    logging.captureWarnings(capture=True)


def is_json() -> bool:
    """Return whether lines are JSON."""
    return _context is not None


class _LineHandler(logging.Handler):
    """Writes log records as `stage` writes its lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _write_line(record.getMessage(), level=record.levelname, logger=record.name)


def stage(text: str, *, ends: str | None = None, **facts: object) -> None:
    """Write one line about the progress of the job.

    Args:
        text: the line.
        ends: the name of the stage that ends here; `laps` returns its seconds.
        facts: facts for all lines from now on, if lines are JSON.
    """
    if ends is not None:
        now = time.monotonic()
        _laps.seconds[ends] = round(now - _laps.begun, 2)
        _laps.begun = now
    if _context is not None:
        _context.update(facts)
    _write_line(text)


def begin(name: str = "") -> None:
    """Begin a job: start to measure the seconds of its stages.

    Args:
        name: the job's name, for all of its lines, if it is one of several.
    """
    global _context, _name  # noqa: PLW0603 - a process runs one job at a time
    _laps.begin()
    _name = name
    if _context is not None:
        _context = _process_facts | ({"name": name} if name else {})


def laps() -> dict[str, float]:
    """Return the seconds of the stages that have ended."""
    return dict(_laps.seconds)


def show_error(error: LakescoreError) -> None:
    """Write *error* in one line."""
    _write_line(str(error), level="ERROR", code=error.code, exit_code=error.exit_code)


def show_slices(receipt: dict[str, Any]) -> None:
    """Write the outcome of each slice if lines are JSON; people read it in the receipt."""
    if _context is not None:
        for slice_facts in receipt.get("slices", []):
            text = f"slice {slice_facts['slice']} is {slice_facts['status']}"
            _write_line(text, **slice_facts)


def _write_line(
    text: str, *, level: str = "INFO", logger: str = "lakescore", **facts: object
) -> None:
    if _context is None:
        job_prefix = f"[{_name}] " if _name else ""
        line = f"{'error' if level == 'ERROR' else 'lakescore'}: {job_prefix}{text}"
    else:  # the keys are those of Spark's structured log
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        context = _context | facts
        entry = {"ts": now, "level": level, "msg": text, "context": context, "logger": logger}
        line = as_json(entry)
    sys.stderr.write(f"{line}\n")  # in one call: other processes write there too
    sys.stderr.flush()


def show_receipt(receipt: dict[str, Any]) -> None:
    """Write *receipt* as JSON, as the last line of standard output."""
    sys.stderr.flush()
    sys.stdout.write(f"{as_json(receipt)}\n")
    sys.stdout.flush()


def show_plan(receipt: Mapping[str, Any]) -> None:
    """Write for a person what a score job would do, with a few rows that were scored as a probe."""
    from rich import box  # noqa: PLC0415 - only for a plan
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    would = receipt["would"]
    slices = list(would["slices"])
    features = [
        f"{feature['name']}{_column_note(feature)}: {feature['type']}{_null_note(feature)}"
        for feature in receipt["features"]
    ]
    casts = [f"{name} from {old} to {new}" for name, (old, new) in receipt["casts"].items()]
    unmet = [
        f"{need['package']} {need['here'] or 'is missing'} (required: {need['asked']})"
        for need in receipt["environment"]
    ]
    lines = {
        "would load": would["load"],
        "would write": f"{counted(would['rows'], 'row')} of {listed(slices, most=4)} into "
        f"{receipt['output']['table']} ({would['write_mode']}, commits: {would['commits']})",
        "columns": listed(receipt["output"]["columns"]),
        "features": listed(features),
        "casts": listed(casts),
        "calls": f"about {would['batches']}, in {counted(would['tasks'], 'task')}",
        "environment": listed(unmet) if unmet else "as the version requires",
    }
    for name, text in lines.items():
        stage(f"{name}: {text}")
    shown = receipt["probe"][:_ROWS_SHOWN]
    table = Table(*map(escape, shown[0] if shown else ()), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in shown:
        table.add_row(*[escape(str(value)) for value in row.values()])
    Console(file=sys.stderr).print(table)


def _column_note(feature: Mapping[str, Any]) -> str:
    return "" if feature["column"] == feature["name"] else f" from {feature['column']}"


def _null_note(feature: Mapping[str, Any]) -> str:
    return "" if feature["null"] == "model" else f" (null: {feature['null']})"


def write_receipt(receipt: dict[str, Any], path: Path) -> None:
    """Write *receipt* to *path*, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(as_json(receipt, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


@contextlib.contextmanager
def progress(runner: Runner, rows: int) -> Iterator[None]:
    """Show tasks done and rows per second while the body runs, in a terminal or a notebook only.

    Args:
        runner: the runner, which counts the tasks.
        rows: the number of rows that the body scores.
    """
    count_tasks = runner.progress()
    bar = None if count_tasks is None else _choose_bar()
    if bar is None:
        yield
        return
    finished = threading.Event()
    # A notebook shows the output of a thread in the cell that is in the thread's context.
    run = contextvars.copy_context().run
    watcher = threading.Thread(target=run, args=(bar, count_tasks, rows, finished), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def in_notebook() -> bool:
    """Return whether IPython's kernel runs this process, as it does for a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _choose_bar() -> Callable[..., None] | None:
    """Return the function that shows a bar where a person looks, or None if nobody does."""
    if in_notebook():
        return _show_bar_in_notebook
    terminal = _open_terminal()
    if terminal is None or _name:  # several bars would overwrite each other
        return None

    def show(
        count_tasks: Callable[[], tuple[int, int]], rows: int, finished: threading.Event
    ) -> None:
        with terminal:
            _show_bar(count_tasks, rows, terminal, finished)

    return show


def _show_bar_in_notebook(
    count_tasks: Callable[[], tuple[int, int]], rows: int, finished: threading.Event
) -> None:
    from IPython.display import HTML, display  # noqa: PLC0415 - only in a notebook

    started = time.monotonic()
    handle, done, tasks = None, 0, 0
    while True:
        is_over = finished.wait(_SECONDS_BETWEEN_UPDATES)
        counts = count_tasks()
        done, tasks = counts if counts[1] else (done, tasks)  # Spark forgets stages that ended
        if tasks:
            rate = rows * done / tasks / (time.monotonic() - started)
            bar = HTML(
                f'<progress max="{tasks}" value="{done}" aria-label="scoring"></progress> '
                f"task {done:,} of {tasks:,}, {rate:,.0f} rows/s"
            )
            if handle is None:
                handle = display(bar, display_id=True)
            else:
                handle.update(bar)
        if is_over:
            return


def _open_terminal() -> TextIO | None:
    """Open the terminal, if a person uses one.

    spark-submit gives the driver pipes even in a terminal. So spark-submit.sh, which sees the
    terminal, sets `LAKESCORE_TERMINAL`.
    """
    if not (sys.stderr.isatty() or os.environ.get("LAKESCORE_TERMINAL")):
        return None
    try:
        return open("/dev/tty", "w", encoding="utf-8")  # noqa: PTH123 - closed by progress
    except OSError:
        return None


def _show_bar(
    count_tasks: Callable[[], tuple[int, int]],
    rows: int,
    terminal: TextIO,
    finished: threading.Event,
) -> None:
    from rich.console import Console  # noqa: PLC0415 - only in a terminal
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
        while not finished.wait(_SECONDS_BETWEEN_UPDATES):
            done, tasks = count_tasks()
            if tasks:
                rate = rows * done / tasks / (time.monotonic() - started)
                bar.update(task, completed=done, total=tasks, tasks=tasks, rate=rate)
