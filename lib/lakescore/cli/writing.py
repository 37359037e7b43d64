"""The commands that add: create, register, tag, untag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.app import Json, Name, command, complete_reference, pairs, say, tell

if TYPE_CHECKING:
    from lakescore.registry.writing import Tagged

_SECONDS_TO_WAIT = 300
_OfModel = Annotated[
    bool, typer.Option("--model", help="REF is the name of a registered model: its own tags")
]
_Tags = Annotated[list[str] | None, typer.Option("--tag", help="key=value; may be repeated")]
_Description = Annotated[str | None, typer.Option(help="what it is, for people")]
_VersionOrModel = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="a version, or a model's name", autocompletion=complete_reference
    ),
]


@command()
def create(
    name: Name, *, tag: _Tags = None, description: _Description = None, as_json: Json = False
) -> None:
    """Make the empty registered model NAME, for versions to come."""
    from lakescore import registry  # noqa: PLC0415

    made = registry.create(name, tags=pairs(tag), description=description)
    tell(made.facts()) if as_json else say(f"created {made.name}")


@command()
def register(  # noqa: PLR0913 - the command's options
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_PATH",
            help="a run's id, runs:/<run id>/<name>, models:/m-<hex>, or a folder or URI",
        ),
    ],
    name: Name,
    *,
    tag: _Tags = None,
    alias: Annotated[str | None, typer.Option(help="alias to move to it, as promote does")] = None,
    description: _Description = None,
    wait: Annotated[
        bool, typer.Option("--await", help=f"until it is ready, {_SECONDS_TO_WAIT} s at the most")
    ] = False,
    allow_no_signature: Annotated[
        bool, typer.Option("--allow-no-signature", help="although it then cannot be scored with")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a model as the next version of NAME.

    NAME is made if it is missing. The model's signature, flavours, files and digest are recorded; a
    copy that differs is never loaded.
    """
    from lakescore import registry  # noqa: PLC0415

    made = registry.register(
        source,
        name,
        tags=pairs(tag),
        alias=alias,
        description=description,
        wait=_SECONDS_TO_WAIT if wait else 0,
        signed=not allow_no_signature,
    )
    aliases = f" ({', '.join(made.aliases)})" if made.aliases else ""
    tell(made.facts()) if as_json else say(f"registered {made.uri}{aliases}")


@command()
def tag(
    reference: _VersionOrModel,
    tags: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="the tags")],
    *,
    model: _OfModel = False,
    as_json: Json = False,
) -> None:
    """Add or change tags of a version, or of a registered model."""
    from lakescore import registry  # noqa: PLC0415

    changed = registry.tag(reference, pairs(tags), of_model=model)
    _tell(changed, as_json=as_json)


@command()
def untag(
    reference: _VersionOrModel,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="the tags' keys")],
    *,
    model: _OfModel = False,
    as_json: Json = False,
) -> None:
    """Remove tags of a version, or of a registered model."""
    from lakescore import registry  # noqa: PLC0415

    changed = registry.untag(reference, keys, of_model=model)
    _tell(changed, as_json=as_json)


def _tell(changed: Tagged, *, as_json: bool) -> None:
    if as_json:
        tell(changed.facts())
    else:
        tags = ", ".join(f"{key}={value}" for key, value in sorted(changed.tags.items()))
        say(f"{changed.of}: {tags or 'no tags'}")
