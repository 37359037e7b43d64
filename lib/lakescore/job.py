"""The door of the jobs: argv -> config -> run -> receipt -> exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from lakescore import console, metering, scanning, session, storage
from lakescore.config import CompareJob, ReplayJob, ScoreJob, load
from lakescore.errors import LakescoreError, MetricsNotWritten, Stopped, TimedOut, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic.fields import FieldInfo

J = TypeVar("J", ScoreJob, CompareJob, ReplayJob)
_TRUSTS_ALL = (
    "no trust policy: code that a stranger's model brings would run; name one by trust: or "
    "LAKESCORE_TRUST (docs/registry.md)"
)


def main(
    kind: type[J], run: Callable[[J], dict[str, Any]], arguments: Sequence[str] | None = None
) -> None:
    """Run a job as a command and end the process with its exit code.

    Args:
        kind: the type of the job's file.
        run: the job; it returns its receipt, which gets the job's name, version and seconds.
        arguments: the command's arguments; those of the process when left out.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    name = kind.__name__.removesuffix("Job").lower()

    @app.command(help=kind.__doc__, epilog=_fields(kind))
    def command(
        config: Annotated[Path, typer.Argument(help="the job's file, such as conf/score.yaml")],
        overrides: Annotated[
            list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="keys to override")
        ] = None,
        *,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Spark's own log, and whole traces")
        ] = False,
        log: Annotated[
            Literal["text", "json"],
            typer.Option(help="what is said while it runs: text, or a JSON document a line"),
        ] = "text",
    ) -> None:
        if log == "json":
            console.log_as_json(job=name)
        if verbose:
            os.environ["LAKESCORE_VERBOSE"] = "1"
        console.own_stderr()
        raise typer.Exit(_outcome(name, kind, run, config, overrides or [], verbose=verbose))

    app(args=None if arguments is None else list(arguments), prog_name=f"{name}.py")


def _outcome(  # noqa: PLR0913 - the command's arguments and the job's parts
    name: str,
    kind: type[J],
    run: Callable[[J], dict[str, Any]],
    config: Path,
    overrides: Sequence[str],
    *,
    verbose: bool,
) -> int:
    started = time.monotonic()
    console.begin()
    receipt: dict[str, Any] = {"job": name, "lakescore": version("lakescore")}
    todo: J | None = None

    def failed(known: LakescoreError) -> int:
        ending = {"status": "failed", "error": str(known), "exit_code": known.exit_code}
        if todo is not None and todo.receipt is not None:
            console.write_receipt({**receipt, **ending, **known.facts}, todo.receipt)
        if todo is not None and todo.prometheus is not None:
            with suppress(MetricsNotWritten):  # the error itself is what must be said
                metering.write({**receipt, **ending, **known.facts}, todo.prometheus)
        console.show_error(known)
        return known.exit_code

    try:
        todo = load(kind, config, overrides)
        if not todo.trust.is_given:
            console.stage(_TRUSTS_ALL)
        with _stopping(failed, todo.timeout_seconds):
            session.prepare(getattr(todo, "runner", "spark"))  # other jobs are Spark's
            receipt |= run(todo)
    except Exception as error:  # noqa: BLE001 - the door: whatever happens ends in one line
        if verbose:
            sys.stderr.write(redact("".join(traceback.format_exception(error))))
        return failed(error if isinstance(error, LakescoreError) else _unforeseen(error))
    receipt["seconds"] = {**console.laps(), "total": round(time.monotonic() - started, 2)}
    if todo.prometheus is not None:
        try:
            metering.write(receipt, todo.prometheus)
        except MetricsNotWritten as error:  # the run is done, and its tables are written
            console.stage(str(error))
    if "would" in receipt:
        console.show_plan(receipt)
    console.show_slices(receipt)
    console.show_receipt(receipt, todo.receipt)
    return 0


@contextmanager
def _stopping(failed: Callable[[LakescoreError], int], seconds: float | None) -> Iterator[None]:
    """End the process when a scheduler asks for it (SIGTERM), or when *seconds* have passed.

    It ends there and then. Unwinding would call the JVM, whose answer to a call that is under way,
    such as to score with a model that hangs, comes first. Once the driver is gone its JVM ends too,
    and with it the workers; a commit is whole or is not.
    """

    def stop(why: LakescoreError) -> None:
        try:
            failed(why)
        finally:
            os._exit(why.exit_code)

    timer = threading.Timer(seconds, stop, [TimedOut(seconds)]) if seconds else None
    mine = threading.current_thread() is threading.main_thread()  # others may not handle signals
    before = signal.signal(signal.SIGTERM, lambda *_: stop(Stopped())) if mine else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        if mine:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _unforeseen(error: Exception) -> LakescoreError:
    if (known := scanning.unread(error) or storage.trouble(error)) is not None:
        return known
    lines = str(error).strip().splitlines()
    if lines[1:] and lines[0].startswith("An error occurred while calling"):
        lines[0] = lines[1].removeprefix(": ")  # Py4J's own line, then what Java said
    first = next(iter(lines), "")
    return LakescoreError(f"{type(error).__name__}: {first} (-v shows the whole trace)")


def _fields(kind: type[J]) -> str:
    """Return the keys of the job's file, one a paragraph, for `--help`."""
    fields: dict[str, FieldInfo] = kind.model_fields
    return "\n\n".join(
        [
            "Keys of the job's file:",
            *[f"{name}: {field.description}" for name, field in fields.items()],
        ]
    )
