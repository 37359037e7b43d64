"""Define the general errors of lakescore, one for each exit code and remedy.

All other errors are subclasses of these, beside the code that raises them; a package has them in
its own module `errors`. An error takes the facts and writes the message: the request, the state
that it met, the remedy. Exit codes are part of the interface: 1 anything else, 2 usage or
configuration, 3 registry or resolution, 4 integrity, 5 input contract, 6 error budget or gate not
met, 7 another run won, 75 a retry may help, 143 stopped by SIGTERM. So is the `code` of a class.
"""

from __future__ import annotations

import os
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from lakescore.wording import listed, nearest, redact, snake_case, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class LakescoreError(Exception):
    """The base of all errors of lakescore; itself, an error that lakescore did not expect."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "unexpected"
    """The name of the error for programs; of a subclass, its class name in snake case."""
    facts: Mapping[str, object] = MappingProxyType({})
    """The facts that the receipt records beside the message."""

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - Python's own signature
        super().__init_subclass__(**options)
        if "code" not in cls.__dict__:
            cls.code = snake_case(cls.__name__)

    def __init__(self, message: str) -> None:
        super().__init__(redact(visible(" ".join(message.split()))))

    def _render_traceback_(self) -> list[str]:
        """Return the one line that IPython and Jupyter show; all of the trace if it is asked for.

        This is IPython's public hook: an exception that has it renders itself.
        """
        if os.environ.get("LAKESCORE_VERBOSE"):
            return redact("".join(traceback.format_exception(self))).splitlines()
        message = str(self).replace("(-v shows", "(%env LAKESCORE_VERBOSE=1 shows")
        return [f"{type(self).__name__}: {message}"]

    def add(self, slices: Sequence[str], facts: Mapping[str, object]) -> None:
        """Add that the run had published *slices* before the error, and the *facts* of them."""
        message = f"{self}; before this error, the run published the slices {listed(slices)}"
        LakescoreError.__init__(self, message)
        self.facts = {**self.facts, **facts}


class ConfigError(LakescoreError):
    """The job's file or an override is wrong."""

    exit_code = 2


class RegistryError(LakescoreError):
    """A reference cannot be resolved."""

    exit_code = 3


class IntegrityError(LakescoreError):
    """Models, files or rows differ from the recorded or allowed ones."""

    exit_code = 4


class InputContractError(LakescoreError):
    """The input does not fit the model's signature or the job's file."""

    exit_code = 5


class RequirementNotMet(LakescoreError):
    """The run did its work, but the result does not meet the job's error budget or gates."""

    exit_code = 6


class ConflictError(LakescoreError):
    """Someone else wrote the same thing first."""

    exit_code = 7


class TemporaryError(LakescoreError):
    """A retry may help."""

    exit_code = 75


class Stopped(LakescoreError):
    """SIGTERM, as a scheduler sends it, stopped the process."""

    exit_code = 143

    def __init__(self) -> None:
        super().__init__(
            "stopped by SIGTERM: this run publishes nothing more; run the job again: it recognises "
            "everything that is published already"
        )


class ColumnsMissing(InputContractError):
    """The input lacks columns that the signature or the job's file names."""

    def __init__(self, address: str, missing: Iterable[str], existing: Iterable[str]) -> None:
        names, columns = list(missing), list(existing)
        lacking = listed(f"{name!r}{nearest(name, columns)}" for name in names)
        super().__init__(f"{address} lacks the columns {lacking}; there are: {listed(columns)}")


class ScoringFailed(LakescoreError):
    """The model raises an error on the input rows."""

    def __init__(self, uri: str, where: str, reason: str) -> None:
        super().__init__(
            f"{uri} could not score {where}: {reason}; nothing more was published (-v shows "
            "the full traceback)"
        )
