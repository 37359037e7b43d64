"""The command that shows models live in a browser: serve."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lakescore.cli.app import command, complete_name, say


@command()
def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="the registered models to show; all when left out",
            autocompletion=complete_name,
        ),
    ] = None,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="of 127.0.0.1; 0 takes one that is free")
    ] = 0,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="open the address in a browser")
    ] = True,
) -> None:
    """Show registered models live in a browser, until Ctrl-C.

    Tags, descriptions and aliases are edited in the page, models created, and logged models
    registered. Prints its address, which holds the key to it: whoever has it can do what you can.
    Nobody but this machine can reach it.
    """
    from lakescore.serving import serve  # noqa: PLC0415 - no part of --help

    def announce(address: str) -> None:
        say(address)
        sys.stdout.flush()

    serve(names or [], port=port, announce=announce, browse=browse)
