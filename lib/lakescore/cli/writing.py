"""Define the commands that write: create, register, tag, untag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.app import Json, Name, command, complete_reference, pairs, say, tell

if TYPE_CHECKING:
    from lakescore.registry.editing import Tagged

_SECONDS_TO_WAIT = 300
_OfModel = Annotated[
    bool,
    typer.Option("--model", help="REF is a registered model: change the tags of the model itself"),
]
_Tags = Annotated[list[str] | None, typer.Option("--tag", help="key=value; can be repeated")]
_Description = Annotated[str | None, typer.Option(help="description, for people")]
_VersionOrModel = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="a version, or a model's name", autocompletion=complete_reference
    ),
]


@command(3, 75)
def create(
    name: Name, *, tag: _Tags = None, description: _Description = None, as_json: Json = False
) -> None:
    """Create the registered model NAME, without versions."""
    from lakescore import registry  # noqa: PLC0415

    model = registry.create(name, tags=pairs(tag), description=description)
    tell(model.facts()) if as_json else say(f"created {model.name}")


@command(3, 4, 7, 75)
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
    alias: Annotated[
        str | None, typer.Option(help="alias to move to the version, as promote does")
    ] = None,
    description: _Description = None,
    wait: Annotated[
        bool, typer.Option("--await", help=f"wait until it is ready, at most {_SECONDS_TO_WAIT} s")
    ] = False,
    allow_no_signature: Annotated[
        bool,
        typer.Option(
            "--allow-no-signature", help="allow a model without one; jobs cannot score with it"
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Register a model as the next version of NAME.

    Creates NAME if it does not exist, and records the model's signature, flavours, files and
    digest. A copy that differs is never loaded.
    """
    from lakescore import registry  # noqa: PLC0415

    version = registry.register(
        source,
        name,
        tags=pairs(tag),
        alias=alias,
        description=description,
        wait=_SECONDS_TO_WAIT if wait else 0,
        signed=not allow_no_signature,
    )
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    tell(version.facts()) if as_json else say(f"registered {version.uri}{aliases}")


@command(3, 7, 75)
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


@command(3, 7, 75)
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
