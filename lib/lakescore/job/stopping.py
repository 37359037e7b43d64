"""The end of a process when its scheduler, its timeout or the end of its parent asks for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakescore.errors import LakescoreError, Stopped, TemporaryError
from lakescore.joblist import NotRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TimedOut(TemporaryError):
    """The run took longer than the job allows."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the run took longer than timeout_seconds: {seconds:g}, so it was stopped; it "
            "publishes nothing more; run the job again: it recognises everything that is published "
            "already"
        )


def end_with_parent() -> None:
    """End this process when its parent, which started it to run jobs, has ended."""
    parent = multiprocessing.parent_process()
    name = "lakescore-parent"
    if parent is None or any(thread.name == name for thread in threading.enumerate()):
        return

    def watch() -> None:
        parent.join()
        os._exit(NotRun.exit_code)

    threading.Thread(target=watch, name=name, daemon=True).start()


class StopRequested(BaseException):
    """A scheduler asks this process to end.

    It is not an `Exception`: it can occur anywhere, also in code that catches every `Exception`.
    """


@contextmanager
def raise_when_stopped() -> Iterator[None]:
    """Raise `StopRequested` once in the body when a scheduler asks this process to end."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the process ends already
        raise StopRequested

    if threading.current_thread() is not threading.main_thread():  # it alone handles signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def end_when_stopped(
    failed: Callable[[LakescoreError], None], seconds: float | None
) -> Iterator[None]:
    """End the process when a scheduler asks for it (SIGTERM), or when *seconds* have passed.

    The process ends at once. Unwinding would call the JVM, and wait until the JVM has answered the
    current call, for example to a model that hangs. Without the driver, its JVM and the workers end
    too. A commit is complete or does not happen.
    """
    deciding, is_over = threading.RLock(), False  # a signal can arrive while this thread has it

    def stop(error: LakescoreError) -> None:
        nonlocal is_over
        with deciding:
            if is_over:  # the body ended at the same moment
                return
            is_over = True
        try:
            failed(error)
        finally:
            os._exit(error.exit_code)

    timer = threading.Timer(seconds, stop, [TimedOut(seconds)]) if seconds else None
    is_main = threading.current_thread() is threading.main_thread()  # it alone handles signals
    before = signal.signal(signal.SIGTERM, lambda *_: stop(Stopped())) if is_main else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        with deciding:
            is_stopping, is_over = is_over, True
        if is_stopping:
            threading.Event().wait()  # until the process ends
        if is_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
