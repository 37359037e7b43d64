"""Define the command about rows: explain."""

from __future__ import annotations

from typing import Annotated

import typer

from lakescore.cli.app import Json, command, say, tell
from lakescore.errors import ConfigError


@command(5, 75)
def explain(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="folder or URI of a table of predictions")
    ],
    *,
    key: Annotated[
        list[str], typer.Option(help="column=value of the row; can be repeated", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Show the version, run, input and slice behind a row's prediction."""
    from lakescore.explaining import explain  # noqa: PLC0415 - --help does not need it

    parts = [word.partition("=") for word in key]
    wrong = [name for name, equals, _ in parts if not (name and equals)]
    if wrong:
        raise ConfigError(f"--key {wrong[0]!r} is not column=value, such as --key id=123")
    rows = explain(table, {name: value for name, _, value in parts})
    if as_json:
        tell(rows)
        return
    from lakescore.cli import screen  # noqa: PLC0415 - --help does not need it

    for number, row in enumerate(rows):
        if number:
            say("")
        screen.facts(row)
