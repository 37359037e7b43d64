"""Define the command about a version's own environment: environment."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakescore import notation
from lakescore.cli.app import Json, Reference, command, say, tell
from lakescore.errors import ConfigError, LakescoreError
from lakescore.isolation import find_code, is_pipeline
from lakescore.wording import counted, either

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lakescore.environments import Environment
    from lakescore.registry import ModelVersion


_SUFFIXES = (".tar.gz", ".tgz")
"""The names of archives by which Spark knows how to unpack them."""


@command(3, 4, 5, 75)
def environment(
    reference: Reference,
    *,
    build: Annotated[
        bool, typer.Option("--build", help="lock its packages and install them, ahead of a job")
    ] = False,
    archive: Annotated[
        Path | None,
        typer.Option(help="the .tar.gz to write, with its Python, for a cluster; builds first"),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            envvar="LAKESCORE_TRUST", help="the file of the trust policy, such as conf/trust.yaml"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which packages REF needs and lacks, make them, pack them.

    A difference matters if the model can fail for it or predict other values: another major or
    minor version of its own libraries, or none of them, or another minor version of Python.
    """
    from lakescore import registry  # noqa: PLC0415 - --help does not need it
    from lakescore.config import policy  # noqa: PLC0415

    if archive is not None and not archive.name.endswith(_SUFFIXES):
        raise ConfigError(f"the archive {archive} needs a name that ends in {either(_SUFFIXES)}")
    model = registry.resolve(reference, trust=policy(trust))
    made, problem = _make(model, archive, hidden=as_json) if build or archive else _find(model)
    facts = _facts(model, made, problem, archive)
    tell(facts) if as_json else _show(facts)


def _make(
    model: ModelVersion, archive: Path | None, *, hidden: bool
) -> tuple[Environment | None, None]:
    """Return the environment, made if it was not, and packed into *archive*."""
    from lakescore import environments  # noqa: PLC0415

    with _bar(hidden=hidden) as progress:
        made = environments.own_environment(*_of(model), **_rules(model), progress=progress)
        if archive is not None:
            progress(f"packs {archive}", 0, 1)
            environments.pack(made, archive)
    return made, None


def _find(model: ModelVersion) -> tuple[Environment | None, str | None]:
    """Return the environment if it is made already, or the reason why it cannot be."""
    from lakescore import environments  # noqa: PLC0415

    try:
        return environments.kept_environment(*_of(model), **_rules(model)), None
    except LakescoreError as error:
        return None, str(error)


def _of(model: ModelVersion) -> tuple[str, Path, dict[str, Any]]:
    return model.uri, model.artifacts, _flavors(model).get("python_function") or {}


def _flavors(model: ModelVersion) -> dict[str, Any]:
    from lakescore.encoding import parsed  # noqa: PLC0415

    card = parsed((model.artifacts / "MLmodel").read_text(encoding="utf-8"))
    return dict(card["flavors"])


def _rules(model: ModelVersion) -> dict[str, Any]:
    return {"allowed": model.installing, "indexes": model.indexes}


def _facts(
    model: ModelVersion, made: Environment | None, problem: str | None, archive: Path | None
) -> dict[str, Any]:
    from lakescore import environments  # noqa: PLC0415

    flavors = _flavors(model)
    libraries = environments.find_libraries(flavors, find_code(flavors, model.artifacts))
    differences = environments.find_differences(model.artifacts, libraries)
    chosen, reason = environments.choose(differences)
    if is_pipeline(flavors):
        chosen, reason = "shared", "Spark itself applies it"
    python, requirements = environments.read_asked(model.artifacts)
    return {
        "name": model.name,
        "version": model.version,
        "uri": model.uri,
        "needs": {"python": python, "requirements": requirements},
        "here": {"python": platform.python_version()},
        "differences": [difference.facts() for difference in differences],
        "auto": chosen,
        "reason": reason,
        "environment": None if made is None else made.facts(),
        "problem": problem,
        "archive": None
        if archive is None
        else {"path": str(archive), "size": archive.stat().st_size},
    }


def _show(facts: dict[str, Any]) -> None:
    from lakescore.cli import screen  # noqa: PLC0415

    rows = [
        [d["package"], d["asked"], d["here"] or "none", "yes" if d["matters"] else "no"]
        for d in facts["differences"]
    ]
    if rows:
        screen.table(["package", "needed", "here", "matters"], rows)
        say("")
    lines = {
        "version": facts["uri"],
        "needs": f"Python {facts['needs']['python'] or 'of any version'}",
        "here": f"Python {facts['here']['python']}",
        "auto": f"{facts['auto']}: {facts['reason']}",
        **_environment_lines(facts),
    }
    screen.table(["property", "value"], [[key, value] for key, value in lines.items() if value])


def _environment_lines(facts: dict[str, Any]) -> dict[str, str]:

    made, archive = facts["environment"], facts["archive"]
    if made is None:
        problem = facts["problem"]
        state = f"cannot be made: {problem}" if problem else "not made; --build makes it"
        return {"environment": state}
    size = f"{counted(len(made['packages']), 'package')}, {notation.size(made['size'])}"
    return {
        "environment": f"Python {made['python']}, {size}",
        "digest": made["digest"],
        "folder": made["folder"],
        "archive": f"{archive['path']}, {notation.size(archive['size'])}" if archive else "",
    }


@contextlib.contextmanager
def _bar(*, hidden: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show the steps of the body as a bar on standard error, where a person looks."""
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
    disable = hidden or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bar:
        task = bar.add_task("", total=1)

        def show(text: str, done: int, total: int) -> None:
            bar.update(task, description=escape(text), completed=done, total=total)

        yield show
