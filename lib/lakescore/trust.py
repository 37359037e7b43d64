"""The trust policy: which model versions may be loaded. Loading a pickled model runs its code.

A rule that is left out allows everything, but for `sources`, which by default leaves out the web,
and `environments`, which a policy that has any other rule sets to none.
What the registry says is checked before a file is fetched, what the files say on the private copy
that would be loaded, and its digest before any of it is.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from lakescore.errors import DigestDiffers, NotTrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_STORES = (
    "file", "mlflow-artifacts", "s3", "gs", "r2", "b2", "abfs", "abfss", "wasb", "wasbs", "adl",
    "dbfs", "hdfs", "viewfs", "models",
)  # fmt: skip
_Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_Pinned = Annotated[str, Field(pattern=r"^[^/]+/[0-9]+$")]
Environments = Literal["none", "wheels"]
_PICKLES = {"pickle", "cloudpickle"}


class Trust(BaseModel):
    """The rules; each that is given must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registries: _Texts | None = Field(
        default=None,
        description="allowed registries: schemes (sqlite) or beginnings of their URIs "
        "(https://mlflow.example.org)",
    )
    sources: _Texts = Field(
        default=_STORES,
        description="where files may lie: schemes (s3) or beginnings of URIs (s3://models/prod)",
    )
    flavours: _Texts | None = Field(
        default=None, description="allowed MLflow flavours; python_function is a model of one's own"
    )
    formats: _Texts | None = Field(
        default=None,
        description="allowed serialisation formats: skops, json, ubj, onnx, ..., and those that "
        "run code when they are loaded: pickle, cloudpickle, code (Python files of the model)",
    )
    tags: dict[str, str | None] = Field(
        default={}, description="tags that a version must carry; null allows any value"
    )
    aliases: _Texts | None = Field(
        default=None, description="aliases of which at least one must point at the version"
    )
    digest: Literal["optional", "required"] = Field(
        default="optional",
        description="required: lakescore register must have written a digest into the ledger, or "
        "it stands in digests; one that is known must always be that of the copy",
    )
    digests: dict[_Pinned, _Digest] = Field(
        default={}, description="the digests of versions, as name/3: sha256:..."
    )
    environments: Environments | None = Field(
        default=None,
        description="whether an env_manager may install what a model's files ask for: none, or "
        "wheels of plain name==version; none where there is any other rule",
    )

    @property
    def is_given(self) -> bool:
        """Whether there is any rule."""
        return bool(self.model_fields_set)

    @property
    def installing(self) -> Environments | None:
        """The rule for environments; None where there is no policy."""
        return self.environments or ("none" if self.is_given else None)

    def check_version(  # noqa: PLR0913 - each is a fact of its own
        self,
        uri: str,
        *,
        registry: str,
        location: str,
        tags: Mapping[str, str],
        aliases: Iterable[str],
        recorded: str | None,
    ) -> None:
        """Check what the registry says of the pinned *uri*: nothing has been fetched yet.

        Args:
            uri: `models:/<name>/<integer>`.
            registry: the URI of the registry.
            location: the URI of the version's files.
            tags: of the version.
            aliases: of the version.
            recorded: the digest that the ledger holds, if any.

        Raises:
            NotTrusted: says which rule refuses it.
        """
        if self.registries is not None and not any(_within(registry, r) for r in self.registries):
            raise NotTrusted(uri, "registries", f"the registry is {registry}", self.registries)
        if ".." in PurePosixPath(unquote(unquote(location))).parts:
            raise NotTrusted(uri, "sources", f"its files lie at {location}", ["no parts '..'"])
        if not any(_within(location, source) for source in self.sources):
            raise NotTrusted(uri, "sources", f"its files lie at {location}", self.sources)
        for key, value in self.tags.items():
            if key not in tags or value not in (None, tags[key]):
                asked = key if value is None else f"{key}={value}"
                raise NotTrusted(uri, "tags", f"its tags are {_pairs(tags)}", [asked])
        there = sorted(aliases)
        if self.aliases is not None and not set(self.aliases) & set(there):
            raise NotTrusted(uri, "aliases", f"its aliases are {_names(there)}", self.aliases)
        if self.digest == "required" and not (recorded or self._pinned(uri)):
            raise NotTrusted(
                uri,
                "digest",
                "the ledger holds none of it (a tag is no evidence)",
                ["one that lakescore register wrote, or one in digests"],
            )

    def check_digest(
        self, uri: str, digest: str, *, recorded: str | None, tagged: str | None
    ) -> str | None:
        """Hold the digest of the private copy of the pinned *uri* against those that are known.

        Args:
            uri: `models:/<name>/<integer>`.
            digest: of all files of the copy.
            recorded: the digest that the ledger holds, if any.
            tagged: the digest in the version's tag, if any. Whoever may write tags can set it, so
                it can show that files have changed, and never that they have not.

        Returns:
            Who says that this is the digest: `the trust policy`, `the ledger`, or None.

        Raises:
            DigestDiffers: the copy is not what was registered, or what the policy names.
        """
        evidence = {"the trust policy": self._pinned(uri), "the ledger": recorded}
        for where, known in {**evidence, "its tag": tagged}.items():
            if known is not None and known != digest:
                raise DigestDiffers(uri, digest, known, where)
        return next((where for where, known in evidence.items() if known), None)

    def check_files(  # noqa: PLR0913 - each is a fact of its own
        self,
        uri: str,
        *,
        flavours: Iterable[str],
        formats: Iterable[str],
        doubts: Iterable[str] = (),
        pickles: Callable[[], Iterable[str]] = tuple,
        modules: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Check how the private copy of the pinned *uri* would be loaded: nothing has been yet.

        Args:
            uri: `models:/<name>/<integer>`.
            flavours: of its MLmodel file.
            formats: of what its loader reads.
            doubts: why it is not known that its loader reads nothing else.
            pickles: finds the pickles among the files that no loader reads.
            modules: finds the modules among them.

        Raises:
            NotTrusted: says which rule refuses it.
        """
        if self.flavours is None and self.formats is None:
            return
        for rule, allowed, has in (
            ("flavours", self.flavours, flavours),
            ("formats", self.formats, formats),
        ):
            refused = [each for each in has if allowed is not None and each not in allowed]
            if refused:
                raise NotTrusted(uri, rule, f"it has {_names(refused)}", allowed or ())
        rule = "flavours" if self.formats is None else "formats"
        if doubt := next(iter(doubts), None):
            raise NotTrusted(uri, rule, doubt, ["a model that lakescore knows how MLflow reads"])
        if self.formats is None or _PICKLES & set(self.formats):
            return
        if file := next(iter(pickles()), None):
            raise NotTrusted(uri, rule, f"beside it lies a pickle, {file!r}", self.formats)
        if "code" not in self.formats and (file := next(iter(modules()), None)):
            raise NotTrusted(uri, rule, f"beside it lies a module, {file!r}", self.formats)

    def _pinned(self, uri: str) -> str | None:
        return self.digests.get(uri.removeprefix("models:/"))


def _within(uri: str, allowed: str) -> bool:
    """Tell whether *uri* has the scheme *allowed*, or lies at or below the URI *allowed*.

    Schemes, hosts and whole parts of the path are compared, never texts: `s3://models` does not
    allow `s3://models-of-others`.
    """
    scheme, host, path = _parts(uri)
    if not re.search(r"[:/]", allowed):
        return scheme == allowed.lower()
    scheme_, host_, path_ = _parts(allowed)
    return (scheme, host) == (scheme_, host_) and path[: len(path_)] == path_


def _parts(uri: str) -> tuple[str, str, tuple[str, ...]]:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2].lower()
    path = tuple(part for part in unquote(parts.path).split("/") if part)
    return parts.scheme.lower() or "file", host, path


def _pairs(tags: Mapping[str, str]) -> str:
    return _names(f"{key}={value}" for key, value in sorted(tags.items()))


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
