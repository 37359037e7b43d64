"""Define the command about a version's own environment: environment."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakescore.cli.app import Json, Reference, command, say, tell
from lakescore.errors import LakescoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lakescore.environments import Environment
    from lakescore.registry import ModelVersion


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
    """Show the packages that REF needs, those that are here, and which differences matter.

    A difference matters if the model can fail for it or predict other values: another major or
    minor version of its own libraries, a missing package, or another minor version of Python.
    """
    from lakescore import environments, registry  # noqa: PLC0415 - --help does not need them
    from lakescore.config import policy  # noqa: PLC0415

    model = registry.resolve(reference, trust=policy(trust))
    if build or archive:
        with _bar(hidden=as_json) as progress:
            made: Environment | None = environments.own_environment(
                *_of(model), **_rules(model), progress=progress
            )
            if made is not None and archive is not None:
                progress(f"packs {archive}", 0, 1)
                environments.pack(made, archive)
        facts = _facts(model, made, None, archive)
    else:
        kept, problem = _find_kept(model)
        facts = _facts(model, kept, problem, None)
    tell(facts) if as_json else _show(facts)


def _of(model: ModelVersion) -> tuple[str, Path, dict[str, Any]]:
    return model.uri, model.artifacts, _flavors(model).get("python_function") or {}


def _flavors(model: ModelVersion) -> dict[str, Any]:
    from lakescore.encoding import parsed  # noqa: PLC0415

    card = parsed((model.artifacts / "MLmodel").read_text(encoding="utf-8"))
    return dict(card["flavors"])


def _rules(model: ModelVersion) -> dict[str, Any]:
    return {"allowed": model.installing, "indexes": model.indexes}


def _find_kept(model: ModelVersion) -> tuple[Environment | None, str | None]:
    """Return the environment if it is made already, or the reason why it cannot be."""
    from lakescore import environments  # noqa: PLC0415

    try:
        return environments.kept_environment(*_of(model), **_rules(model)), None
    except LakescoreError as error:
        return None, str(error)


def _facts(
    model: ModelVersion, made: Environment | None, problem: str | None, archive: Path | None
) -> dict[str, Any]:
    from lakescore import environments  # noqa: PLC0415

    libraries = environments.find_libraries(_flavors(model), model.artifacts)
    differences = environments.find_differences(model.artifacts, libraries)
    chosen, reason = environments.choose(differences)
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

    made, archive, needs = facts["environment"], facts["archive"], facts["needs"]
    say(f"{facts['uri']} needs Python {needs['python'] or '?'}; here: {facts['here']['python']}")
    if facts["differences"]:
        say("")
        rows = [
            [d["package"], d["asked"], d["here"] or "none", "yes" if d["matters"] else ""]
            for d in facts["differences"]
        ]
        screen.table(["package", "needed", "here", "matters"], rows)
        say("")
    say(f"auto:        {facts['auto']}: {facts['reason']}")
    if made is not None:
        size = f"{len(made['packages'])} packages, {screen.size(made['size'])}"
        say(f"environment: {made['digest'][:19]}, Python {made['python']}, {size}")
        say(f"folder:      {made['folder']}")
    elif facts["problem"]:
        say(f"environment: cannot be made: {facts['problem']}")
    else:
        say("environment: not made; --build makes it")
    if archive is not None:
        say(f"archive:     {archive['path']}, {screen.size(archive['size'])}")


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
