"""The command about rows: explain."""

from __future__ import annotations

from typing import Annotated

import typer

from lakescore.cli.app import Json, command, say, tell
from lakescore.errors import ConfigError


@command()
def explain(
    table: Annotated[str, typer.Argument(help="folder or URI of a table of predictions")],
    *,
    key: Annotated[
        list[str], typer.Option(help="column=value of the row; may be repeated", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Say which version, run, input and slice made the prediction of a row."""
    from lakescore.explaining import explain  # noqa: PLC0415 - no part of --help

    parts = [each.partition("=") for each in key]
    wrong = [name for name, equals, _ in parts if not (name and equals)]
    if wrong:
        raise ConfigError(f"--key {wrong[0]!r} is not column=value, such as --key id=123")
    found = explain(table, {name: value for name, _, value in parts})
    if as_json:
        tell(found)
        return
    from lakescore.cli import screen  # noqa: PLC0415 - likewise

    for number, row in enumerate(found):
        if number:
            say("")
        screen.facts(row)
