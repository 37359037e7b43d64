"""The trust policy: the model versions that can be loaded. A pickled model runs its code on load.

A missing rule allows everything, with two exceptions. `sources` does not allow the web by default,
and `environments` is none if the policy has any other rule.
The facts of the registry are checked before a file is fetched. The digest and the facts of the
files are checked on the private copy, before any of it is loaded.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from lakescore.errors import IntegrityError
from lakescore.wording import listed

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


class NotTrusted(IntegrityError):
    """The trust policy refuses the version."""

    def __init__(self, uri: str, rule: str, has: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{uri} is refused by the trust policy's rule {rule!r}: {has}; "
            f"allowed: {listed(allowed, most=20)}"
        )


class DigestDiffers(IntegrityError):
    """The files differ from the registered files."""

    def __init__(self, uri: str, digest: str, known: str, where: str) -> None:
        super().__init__(
            f"the files of {uri} differ from the registered files: their digest is {digest}, but "
            f"{where} says {known}; find out who changed them, and register the model again"
        )


class Trust(BaseModel):
    """The rules; a version must meet all rules that are set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registries: _Texts | None = Field(
        default=None,
        description="allowed registries: schemes (sqlite) or prefixes of their URIs "
        "(https://mlflow.example.org)",
    )
    sources: _Texts = Field(
        default=_STORES,
        description="allowed locations of files: schemes (s3) or prefixes of URIs (s3://models/prod)",
    )
    flavours: _Texts | None = Field(
        default=None, description="allowed MLflow flavours; python_function is a custom model"
    )
    formats: _Texts | None = Field(
        default=None,
        description="allowed serialisation formats: skops, json, ubj, onnx, ..., and the formats "
        "that run code on load: pickle, cloudpickle, code (Python files of the model)",
    )
    tags: dict[str, str | None] = Field(
        default={}, description="tags that a version must have; null allows any value"
    )
    aliases: _Texts | None = Field(
        default=None, description="aliases of which at least one must point at the version"
    )
    digest: Literal["optional", "required"] = Field(
        default="optional",
        description="required: the version's digest must be in the ledger, written by lakescore "
        "register, or in digests; a known digest must always match the copy",
    )
    digests: dict[_Pinned, _Digest] = Field(
        default={}, description="the digests of versions, as name/3: sha256:..."
    )
    environments: Environments | None = Field(
        default=None,
        description="the packages that an env_manager, or an environment of its own, can install "
        "for a model: none, or wheels of plain name==version; default: none if there is any other "
        "rule",
    )
    indexes: _Texts | None = Field(
        default=None,
        description="allowed indexes of packages for a model's own environment: schemes (https) or "
        "prefixes of URIs (https://packages.example.org/simple); default: those that this machine "
        "is set up for",
    )

    @property
    def is_given(self) -> bool:
        """Whether there is any rule."""
        return bool(self.model_fields_set)

    @property
    def installing(self) -> Environments | None:
        """The rule for environments; None if there is no policy."""
        return self.environments or ("none" if self.is_given else None)

    def check_version(  # noqa: PLR0913 - each is a separate fact
        self,
        uri: str,
        *,
        registry: str,
        location: str,
        tags: Mapping[str, str],
        aliases: Iterable[str],
        recorded: str | None,
    ) -> None:
        """Check the facts of the registry about the pinned *uri*, before any file is fetched.

        Args:
            uri: `models:/<name>/<integer>`.
            registry: the URI of the registry.
            location: the URI of the version's files.
            tags: the tags of the version.
            aliases: the aliases of the version.
            recorded: the digest in the ledger; None if it has none.

        Raises:
            NotTrusted: a rule refuses the version; the error names the rule.
        """
        if self.registries is not None and not any(
            _is_within(registry, r) for r in self.registries
        ):
            raise NotTrusted(uri, "registries", f"the registry is {registry}", self.registries)
        if ".." in PurePosixPath(unquote(unquote(location))).parts:
            raise NotTrusted(uri, "sources", f"its files lie at {location}", ["no parts '..'"])
        if not any(_is_within(location, source) for source in self.sources):
            raise NotTrusted(uri, "sources", f"its files lie at {location}", self.sources)
        for key, value in self.tags.items():
            if key not in tags or value not in (None, tags[key]):
                required = key if value is None else f"{key}={value}"
                raise NotTrusted(uri, "tags", f"its tags are {_pairs(tags)}", [required])
        names = sorted(aliases)
        if self.aliases is not None and not set(self.aliases) & set(names):
            raise NotTrusted(uri, "aliases", f"its aliases are {_names(names)}", self.aliases)
        if self.digest == "required" and not (recorded or self._policy_digest(uri)):
            raise NotTrusted(
                uri,
                "digest",
                "the ledger has no digest of it (a tag is not evidence)",
                ["a digest that lakescore register wrote, or a digest in digests"],
            )

    def check_digest(
        self, uri: str, digest: str, *, recorded: str | None, tagged: str | None
    ) -> str | None:
        """Compare the digest of the private copy of the pinned *uri* with the known digests.

        Args:
            uri: `models:/<name>/<integer>`.
            digest: the digest of all files of the copy.
            recorded: the digest in the ledger; None if it has none.
            tagged: the digest in the version's tag; None if it has none. Anyone with the right to
                write tags can set it. So it can prove that files have changed, but never that they
                have not.

        Returns:
            The source that confirms the digest: `the trust policy`, `the ledger`, or None.

        Raises:
            DigestDiffers: the copy differs from the registered files, or from the policy's digest.
        """
        evidence = {"the trust policy": self._policy_digest(uri), "the ledger": recorded}
        for where, known in {**evidence, "its tag": tagged}.items():
            if known is not None and known != digest:
                raise DigestDiffers(uri, digest, known, where)
        return next((where for where, known in evidence.items() if known), None)

    def check_files(  # noqa: PLR0913 - each is a separate fact
        self,
        uri: str,
        *,
        flavours: Iterable[str],
        formats: Iterable[str],
        doubts: Iterable[str] = (),
        pickles: Callable[[], Iterable[str]] = tuple,
        modules: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Check the way in which MLflow would load the private copy of the pinned *uri*.

        Nothing is loaded before this check.

        Args:
            uri: `models:/<name>/<integer>`.
            flavours: the flavours of its MLmodel file.
            formats: the formats of the files that its loader reads.
            doubts: the reasons why its loader could read other files too.
            pickles: a function that finds the pickles among the files that no loader reads.
            modules: a function that finds the modules among them.

        Raises:
            NotTrusted: a rule refuses the version; the error names the rule.
        """
        if self.flavours is None and self.formats is None:
            return
        for rule, allowed, present in (
            ("flavours", self.flavours, flavours),
            ("formats", self.formats, formats),
        ):
            refused = [name for name in present if allowed is not None and name not in allowed]
            if refused:
                raise NotTrusted(uri, rule, f"it has {_names(refused)}", allowed or ())
        rule = "flavours" if self.formats is None else "formats"
        if doubt := next(iter(doubts), None):
            raise NotTrusted(uri, rule, doubt, ["a model with a loader that lakescore knows"])
        if self.formats is None or _PICKLES & set(self.formats):
            return
        if file := next(iter(pickles()), None):
            raise NotTrusted(uri, rule, f"its folder also has a pickle, {file!r}", self.formats)
        if "code" not in self.formats and (file := next(iter(modules()), None)):
            raise NotTrusted(uri, rule, f"its folder also has a module, {file!r}", self.formats)

    def _policy_digest(self, uri: str) -> str | None:
        return self.digests.get(uri.removeprefix("models:/"))


def check_index(uri: str, index: str, allowed: Iterable[str] | None) -> None:
    """Check an index of packages from which the environment of the pinned *uri* is made.

    Args:
        uri: `models:/<name>/<integer>`.
        index: the URI of the index.
        allowed: the policy's rule `indexes`; None allows all.

    Raises:
        NotTrusted: the rule refuses the index.
    """
    if allowed is not None and not any(_is_within(index, rule) for rule in allowed):
        raise NotTrusted(uri, "indexes", f"uv is set up for {index}", allowed)


def _is_within(uri: str, allowed: str) -> bool:
    """Return whether *uri* has the scheme *allowed*, or is at or below the URI *allowed*.

    It compares schemes, hosts and complete parts of the path, never texts: `s3://models` does not
    allow `s3://models-of-others`.
    """
    scheme, host, path = _parts(uri)
    if not re.search(r"[:/]", allowed):
        return scheme == allowed.lower()
    allowed_scheme, allowed_host, allowed_path = _parts(allowed)
    return (scheme, host) == (allowed_scheme, allowed_host) and path[
        : len(allowed_path)
    ] == allowed_path


def _parts(uri: str) -> tuple[str, str, tuple[str, ...]]:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2].lower()
    path = tuple(part for part in unquote(parts.path).split("/") if part)
    return parts.scheme.lower() or "file", host, path


def _pairs(tags: Mapping[str, str]) -> str:
    return _names(f"{key}={value}" for key, value in sorted(tags.items()))


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
