"""Run a job from Python: the job's own function, with the keys of its file as arguments."""

from __future__ import annotations

import importlib.util
import inspect
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lakescore import assets, console
from lakescore.config import CompareJob, Job, ScoreJob, arguments
from lakescore.errors import ConfigError
from lakescore.interface.results import Comparison, Receipt
from lakescore.job import explain, perform, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic.fields import FieldInfo

    Function = TypeVar("Function", bound=Callable[..., Any])


def _shows_keys(kind: type[Job]) -> Callable[[Function], Function]:
    """Give a function the keys of a job's file as its signature and in its help."""

    def show(function: Function) -> Function:
        file, _ = inspect.signature(function).parameters.values()
        fields = sorted(kind.model_fields.items(), key=lambda item: not item[1].is_required())
        keys = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(field),
                annotation=field.annotation,
            )
            for name, field in fields
        ]
        lines = [f"    {name}: {field.description}" for name, field in fields]
        vars(function)["__signature__"] = inspect.Signature([file, *keys])
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", "Keys:", *lines])
        return function

    return show


def _default(field: FieldInfo) -> object:
    """Return a field's default for a signature, where `...` stands for one that is made anew."""
    if field.is_required():
        return inspect.Parameter.empty
    return field.default if field.default_factory is None else ...


@_shows_keys(ScoreJob)
def score(file: str | Path | None = None, /, **keys: Any) -> Receipt:  # noqa: ANN401 - as in a file
    """Score slices of a Delta table with one pinned model version, and return the receipt.

    This runs the job of `lakescore score`, in this process. If the process has a session of Spark,
    the job uses it, and leaves its settings as they are. Without one, the job starts Spark only if
    it needs Spark.

    Args:
        file: the job's file; default: the arguments are all of the job.
        keys: keys of the job's file, which replace those of *file*. A table is a path if its text
            contains a `/`, and otherwise a name in the catalog; or it is a mapping, as in a file.

    Raises:
        LakescoreError: whatever ends the job; its `exit_code` is that of the command.
    """
    return Receipt(_run(ScoreJob, "score", file, keys))


@_shows_keys(CompareJob)
def compare(file: str | Path | None = None, /, **keys: Any) -> Comparison:  # noqa: ANN401 - as in a file
    """Rank model versions on all rows of one holdout, and return the comparison.

    This runs the job of `lakescore compare`, as `score` runs its own.

    Args:
        file: the job's file; default: the arguments are all of the job.
        keys: keys of the job's file, which replace those of *file*.

    Raises:
        LakescoreError: whatever ends the job; its `exit_code` is that of the command.
    """
    return Comparison(_run(CompareJob, "compare", file, keys))


J = TypeVar("J", bound=Job)


def _run(
    kind: type[J], name: str, file: str | Path | None, keys: Mapping[str, Any]
) -> dict[str, Any]:
    config = arguments(kind, f"lakescore.{name}", keys, None if file is None else Path(file))
    if config.timeout_seconds is not None:
        raise ConfigError(
            f"lakescore.{name}: timeout_seconds ends the process of a job, which is your own here; "
            f"leave it out, or run the command lakescore {name}"
        )
    console.begin()
    try:
        return perform(_job(name), config)
    except (Exception, SystemExit) as error:
        known = explain(error)
        record(config, known)
        if known is error:
            raise
        raise known from error


@cache
def _job(name: str) -> Callable[[Any], dict[str, Any]]:
    """Return the function of a job's file: jobs are files for spark-submit, and no package."""
    path = assets.job_files()[name]
    spec = importlib.util.spec_from_file_location(f"lakescore_job_{name}", path)
    assert spec is not None  # noqa: S101 - the file is a Python file
    assert spec.loader is not None  # noqa: S101 - likewise
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Any], dict[str, Any]] = module.run
    return function
