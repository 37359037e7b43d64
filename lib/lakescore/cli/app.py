"""Define what all commands share: the app, the types of arguments, errors of one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from lakescore.encoding import as_json
from lakescore.errors import ConfigError, LakescoreError
from lakescore.wording import redact, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXIT_CODES = {
    0: "done, also if there was nothing to do",
    1: "any other error",
    2: "usage or configuration",
    3: "registry or resolution",
    4: "integrity or trust",
    5: "no such table, row or package",
    7: "someone else moved the alias",
    75: "a retry may help",
}
_ALWAYS = (0, 1, 2)


def _describe_codes(*codes: int) -> str:
    texts = [f"{code} {_EXIT_CODES[code]}" for code in sorted({*_ALWAYS, *codes})]
    return f"Exit codes: {'; '.join(texts)}."


_ORDER = (
    *("init", "score", "compare", "replay", "monitor"),
    *("models", "versions", "show", "files", "diff", "report", "serve", "resolve", "environment"),
    *("create", "register", "tag", "untag", "promote", "rollback", "withdraw", "history"),
    *("apply", "explain", "schema", "check", "schedule", "path", "setup"),
)


class _Commands(TyperGroup):
    """A group of commands that ends with the exit code and the one line of an error."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        return sorted(self.commands, key=_ORDER.index)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except LakescoreError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this prints to the terminal
            raise typer.Exit(error.exit_code) from None


def _placeholder(option: TyperOption) -> str:
    taken = option.type_descriptor
    if taken.is_path:
        return "PATH"
    return "NUMBER" if taken.is_ranged else "TEXT"


class _Command(TyperCommand):
    """A command whose options all show what they take by a word in capitals."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Typer's own
        super().__init__(*args, **kwargs)
        for option in self.params:
            if isinstance(option, TyperOption) and not option.is_flag and option.metavar is None:
                option.metavar = _placeholder(option)


app = typer.Typer(
    cls=_Commands,
    help="Score Delta tables with MLflow models; register, compare and promote versions.",
    epilog=_describe_codes(*_EXIT_CODES),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def command(*codes: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the decorator that makes a function a command.

    Args:
        codes: the exit codes that the command's help lists beside 0, 1 and 2.
    """
    return app.command(cls=_Command, epilog=_describe_codes(*codes))


def complete_name(incomplete: str) -> list[str]:
    """Return the registered models whose names begin with *incomplete*, for the shell."""
    from lakescore import registry  # noqa: PLC0415 - --help does not need it

    try:
        return [model.name for model in registry.models(f"{incomplete}*")]
    except LakescoreError:
        return []


def complete_reference(incomplete: str) -> list[str]:
    """Return the references that begin with *incomplete*: models, aliases or versions."""
    from lakescore import registry  # noqa: PLC0415

    before_at, at, _ = incomplete.rpartition("@")
    before_slash, slash, _ = incomplete.rpartition("/")
    try:
        if at:
            (model,) = registry.models(before_at)
            references = [f"{before_at}@{alias}" for alias in model.aliases]
        elif slash:
            versions = registry.versions(before_slash)
            references = [f"{before_slash}/{record.version}" for record in versions]
        else:
            references = [f"{model.name}@" for model in registry.models(f"{incomplete}*")]
    except (LakescoreError, ValueError):
        return []
    return [reference for reference in references if reference.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="print one JSON document, for programs")]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="name of a registered model", autocompletion=complete_name),
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
    str | None, typer.Option("--order-by", help="a column, optionally followed by asc or desc")
]


def tell(facts: object) -> None:
    """Print *facts* as one JSON document."""
    print(as_json(facts, indent=2))  # noqa: T201 - this prints to the terminal


def say(text: str, *, keeps_lines: bool = False) -> None:
    """Print a line, or lines, for people, without credentials and control characters."""
    lines = text.splitlines() if keeps_lines else [text]
    print("\n".join(visible(redact(line)) for line in lines))  # noqa: T201 - to the terminal


def pairs(words: Sequence[str] | None) -> dict[str, str]:
    """Return the keys and values of *words* such as `key=value`.

    Raises:
        ConfigError: a word has no `=`, or a key occurs twice.
    """
    values: dict[str, str] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not equals or key in values:
            raise ConfigError(f"{word!r} is not a tag; write key=value, each key once")
        values[key] = value
    return values
