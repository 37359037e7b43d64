"""One run of a job: its receipt with the facts that all kinds of jobs share, and its files."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from lakescore import console, metering, scanning, session, storage
from lakescore.config import Job
from lakescore.errors import LakescoreError
from lakescore.metering import MetricsNotWritten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lakescore.trust import Trust

    Receipt = dict[str, Any]

J = TypeVar("J", bound=Job)
_TRUSTS_ALL = (
    "no trust policy: code in a model from a stranger would run; name a policy with trust: or "
    "LAKESCORE_TRUST (docs/registry.md)"
)


def perform(
    run: Callable[[J], Receipt], config: J, within: AbstractContextManager[None] | None = None
) -> Receipt:
    """Run a job; write the files that its configuration names, and return its receipt.

    Args:
        run: the job's own function.
        config: the job.
        within: a context for the run.

    Raises:
        Whatever the job raises. Then the files of `config` are not written; see `record`.
    """
    started = time.monotonic()
    warn_without_policy(config.trust)
    session.prepare(config.runner)
    with within or nullcontext():
        receipt: Receipt = _head(config) | run(config)
    receipt["seconds"] = {**console.laps(), "total": round(time.monotonic() - started, 2)}
    if config.prometheus is not None:
        try:
            metering.write(receipt, config.prometheus)
        except MetricsNotWritten as error:  # the run succeeded, and its tables are written
            console.stage(str(error))
    if "would" in receipt and not console.in_notebook():
        console.show_plan(receipt)
    console.show_slices(receipt)
    _write(receipt, config.receipt)
    return receipt


def record(config: Job, error: LakescoreError) -> Receipt:
    """Write the files of a job that failed with *error*, and return its receipt."""
    ending = {
        "status": "failed",
        "error": str(error),
        "code": error.code,
        "exit_code": error.exit_code,
    }
    receipt = {**_head(config), **ending, **error.facts}
    _write(receipt, config.receipt)
    if config.prometheus is not None:
        with suppress(MetricsNotWritten):  # show the error of the job instead
            metering.write(receipt, config.prometheus)
    return receipt


def explain(error: BaseException) -> LakescoreError:
    """Return *error* as a LakescoreError, which has one line and an exit code."""
    if isinstance(error, LakescoreError):
        return error
    if (known := scanning.unread(error) or storage.explain_error(error)) is not None:
        return known
    lines = str(error).strip().splitlines()
    if lines[1:] and lines[0].startswith("An error occurred while calling"):
        lines[0] = lines[1].removeprefix(": ")  # Py4J's line comes first, then Java's message
    message = next(iter(lines), "")
    return LakescoreError(f"{type(error).__name__}: {message} (-v shows the full traceback)")


def warn_without_policy(trust: Trust) -> None:
    """Write one line if no trust policy says which versions may be loaded."""
    if not trust.is_given:
        console.stage(_TRUSTS_ALL)


def _head(config: Job) -> Receipt:
    return {"job": config.job_name, "lakescore": version("lakescore")}


def _write(receipt: Receipt, path: Path | None) -> None:
    """Write a receipt to *path*, if it is set; a failure does not change the result of the job."""
    if path is not None:
        try:
            console.write_receipt(receipt, path)
        except OSError as error:
            console.stage(f"the receipt cannot be written to {path}: {error.strerror or error}")
