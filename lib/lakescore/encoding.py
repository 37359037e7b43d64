"""Encoding: JSON for machines, and YAML from untrusted sources.

A YAML document of a few hundred bytes can stand for gigabytes, because an alias repeats everything
that its anchor marks. So its size is counted, or aliases are refused, before values are made.
"""

from __future__ import annotations

import json
import math
import pickle
from functools import lru_cache
from typing import Any

import yaml

REPORT_FORMAT = "lakescore-report/1"
"""The format of the document that a report's page embeds; docs/report.md lists its keys."""


def as_json(document: object, indent: int | None = None) -> str:
    """Return *document* as JSON; NaN and infinities become texts, because JSON has no such numbers.

    Keys that are neither texts nor numbers are written as texts.
    """
    return json.dumps(_finite(document), indent=indent, allow_nan=False, default=str)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {_key(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(float(value))  # NaN, Infinity or -Infinity
    return value


def _key(name: object) -> object:
    """Return *name* as a key of JSON; keys of a map can be dates, numbers, or lists of them."""
    name = _finite(name)
    return name if name is None or isinstance(name, (str, int, float)) else str(name)


_LARGEST_YAML = 5_000_000
"""Characters, with all aliases written out."""
_LARGEST_CACHED = 100_000
_LONGEST_NUMBER = 1000
"""Characters of a scalar that is not a text; for some kinds, time grows with their square."""
_TEXT = "tag:yaml.org,2002:str"


class Spelt(yaml.BaseLoader):
    """A loader that makes texts, lists and mappings, and refuses anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 - PyYAML's signature
        """Refuse an anchor or alias, which would repeat another part of the document."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(
                None, None, "anchors (&) and aliases (*) are not allowed", event.start_mark
            )
        return super().compose_node(parent, index)


def spelt(text: str) -> Any:  # noqa: ANN401 - texts, lists and mappings
    """Return the value of the YAML *text*, with every scalar as the text that is written there.

    Raises:
        yaml.YAMLError: *text* is not YAML, or has anchors or aliases.
    """
    try:
        return yaml.load(text, Spelt)  # noqa: S506 - makes only texts, lists and mappings
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def parsed(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """Return the value that YAML's safe loader makes of *text*, unless it is too large.

    Raises:
        yaml.YAMLError: *text* is not YAML, contains itself, or is larger than 5 million characters
            with its aliases written out.
    """
    if len(text) > _LARGEST_CACHED:
        return _load(text)
    return pickle.loads(_pickle_value(text))  # noqa: S301 - pickled here, of plain values


@lru_cache(maxsize=2048)
def _pickle_value(text: str) -> bytes:
    """Return the value of *text*, pickled for the cache.

    PyYAML takes milliseconds, and a model's file is read three times. Its parser in C would be
    faster, but it reads some texts differently from MLflow and crashes on others.
    """
    return pickle.dumps(_load(text))


def _load(text: str) -> Any:  # noqa: ANN401 - any YAML value
    if len(text) > _LARGEST_YAML:
        raise yaml.YAMLError(f"it has more than {_LARGEST_YAML:,} characters")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_characters(node, {}) > _LARGEST_YAML:
            raise yaml.YAMLError(f"its aliases stand for more than {_LARGEST_YAML:,} characters")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _count_characters(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Return the number of characters that *node* stands for; *sizes* has the counted nodes."""
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise yaml.YAMLError("a part of it contains itself")
        return size
    sizes[id(node)] = None
    if isinstance(node, yaml.ScalarNode):
        size = len(node.value) + 1
        if node.tag != _TEXT and size > _LONGEST_NUMBER:
            raise yaml.YAMLError(
                f"a value that is not a text has more than {_LONGEST_NUMBER:,} characters"
            )
    else:
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        size = 1 + sum(_count_characters(part, sizes) for part in parts)
    sizes[id(node)] = size
    return size
