"""What all commands share: the app, the kinds of their arguments, errors of one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lakescore.encoding import as_json
from lakescore.errors import ConfigError, LakescoreError, redact, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_CODES = (
    "Exit codes: 0 done, also when there was nothing to do; 1 anything else; 2 usage or "
    "configuration; 3 registry or resolution; 4 integrity or trust; 7 another one moved the alias; "
    "75 a retry may help."
)


_ORDER = (
    "models", "versions", "show", "files", "diff", "report", "serve", "resolve", "create",
    "register", "tag", "untag", "promote", "rollback", "withdraw", "history", "explain",
    "schema", "check", "schedule",
)  # fmt: skip


class _Commands(TyperGroup):
    """Ends with an error's own exit code, and one line instead of a trace."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        return sorted(self.commands, key=_ORDER.index)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except LakescoreError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - here is the terminal
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_Commands,
    help="Everything that one does with model versions. Jobs run by spark-submit.sh.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def command() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the decorator that makes a function a command, whose help ends with the exit codes."""
    return app.command(epilog=EXIT_CODES)


def complete_name(incomplete: str) -> list[str]:
    """Return the registered models whose names begin so, for the shell's completion."""
    from lakescore import registry  # noqa: PLC0415 - no part of --help

    try:
        return [each.name for each in registry.models(f"{incomplete}*")]
    except LakescoreError:
        return []


def complete_reference(incomplete: str) -> list[str]:
    """Return the references that begin so: models, then the aliases or versions of one."""
    from lakescore import registry  # noqa: PLC0415

    name, at, _ = incomplete.rpartition("@")
    name_, slash, _ = incomplete.rpartition("/")
    try:
        if at:
            (model,) = registry.models(name)
            found = [f"{name}@{alias}" for alias in model.aliases]
        elif slash:
            found = [f"{name_}/{each.version}" for each in registry.versions(name_)]
        else:
            found = [f"{each.name}@" for each in registry.models(f"{incomplete}*")]
    except (LakescoreError, ValueError):
        return []
    return [each for each in found if each.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="one JSON document, for machines")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="a registered model", autocompletion=complete_name)
]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="name/3, name@alias, name/latest, models:/..., or a query",
        autocompletion=complete_reference,
    ),
]

Where = Annotated[
    str | None,
    typer.Option("--where", help="a filter, such as \"metrics.rmse < 12 and tags.team = 'ops'\""),
]
OrderBy = Annotated[
    str | None, typer.Option("--order-by", help="a column, with asc or desc behind it")
]


def tell(facts: object) -> None:
    """Print *facts* as one JSON document."""
    print(as_json(facts, indent=2))  # noqa: T201 - here is the terminal


def say(text: str) -> None:
    """Print a line for people, without credentials, and without what a terminal would obey."""
    print(visible(redact(text)))  # noqa: T201 - here is the terminal


def pairs(given: Sequence[str] | None) -> dict[str, str]:
    """Return the tags that were given as key=value.

    Raises:
        ConfigError: one has no `=`, or a key stands twice.
    """
    found: dict[str, str] = {}
    for each in given or ():
        key, equals, value = each.partition("=")
        if not equals or key in found:
            raise ConfigError(f"{each!r} is not a tag; write key=value, each key once")
        found[key] = value
    return found
