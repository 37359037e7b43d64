"""Define the command that shows models live in a browser: serve."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import Annotated

import typer

from lakescore.cli.app import command, complete_name, say


@command(3, 75)
def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="registered models to show; default: all",
            autocompletion=complete_name,
        ),
    ] = None,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port of 127.0.0.1; 0 takes a free port")
    ] = 0,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="folder of the tables that a version can be applied to; default: LAKESCORE_HOME",
        ),
    ] = None,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="open the address in a browser")
    ] = True,
) -> None:
    """Show registered models live in a browser, until Ctrl-C.

    In the page you can edit tags, descriptions and aliases, create models, and register logged
    models. It also maps the columns of a table to a version, as lakescore apply does, and shows the
    job's file to copy. The command prints the address of the page, which contains its token:
    everyone with the address can do what you can do. Only this machine can reach the page.
    """
    from lakescore.serving import serve  # noqa: PLC0415 - --help does not need it

    def announce(address: str) -> None:
        say(address)
        sys.stdout.flush()

    serve(names or [], port=port, announce=announce, browse=browse, tables=tables)
