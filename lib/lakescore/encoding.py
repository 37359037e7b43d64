"""Encoding: documents as the JSON that machines read, and YAML that strangers wrote.

A YAML of a few hundred bytes can stand for gigabytes, since an alias repeats all that its anchor
marks. So it is counted, or aliases are refused, before a value is made of it.
"""

from __future__ import annotations

import json
import math
import pickle
from functools import lru_cache
from typing import Any

import yaml

REPORT_FORMAT = "lakescore-report/1"
"""Of the document that a report's page embeds, whoever makes it; docs/report.md lists its keys."""


def as_json(document: object, indent: int | None = None) -> str:
    """Return *document* as JSON, in which NaN and infinities are texts: it has no such numbers.

    Keys that are no texts or numbers are written as texts.
    """
    return json.dumps(_finite(document), indent=indent, allow_nan=False, default=str)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {_key(name): _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(float(value))  # NaN, Infinity or -Infinity
    return value


def _key(name: object) -> object:
    """Return *name* as a key of JSON: a map's may be dates, numbers, or lists of them."""
    name = _finite(name)
    return name if name is None or isinstance(name, (str, int, float)) else str(name)


_LARGEST_YAML = 5_000_000
"""Characters, once each alias is written out."""
_LARGEST_KEPT = 100_000
_LONGEST_NUMBER = 1000
"""Characters of a scalar that is no text: the time to read some kinds grows with its square."""
_TEXT = "tag:yaml.org,2002:str"


class Spelt(yaml.BaseLoader):
    """A loader that makes texts, lists and mappings, and refuses anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 - PyYAML's signature
        """Refuse what would repeat another part of the document."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(
                None, None, "anchors (&) and aliases (*) are not taken", event.start_mark
            )
        return super().compose_node(parent, index)


def spelt(text: str) -> Any:  # noqa: ANN401 - texts, lists and mappings
    """Return the YAML *text* with each scalar as the text that stands there.

    Raises:
        yaml.YAMLError: it is none, or holds anchors or aliases.
    """
    try:
        return yaml.load(text, Spelt)  # noqa: S506 - makes nothing but texts, lists and mappings
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


def parsed(text: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """Return what YAML's safe loader makes of *text*, unless it stands for too much.

    Raises:
        yaml.YAMLError: it is none, it repeats itself without end, or it is larger than 5 million
            characters once its aliases are written out.
    """
    if len(text) > _LARGEST_KEPT:
        return _made(text)
    return pickle.loads(_kept(text))  # noqa: S301 - of plain values, and ours


@lru_cache(maxsize=2048)
def _kept(text: str) -> bytes:
    """Keep what a text holds: PyYAML takes milliseconds, and a model's file is read three times.

    Its parser in C would be faster, but reads some texts in another way than MLflow does, and dies
    of others.
    """
    return pickle.dumps(_made(text))


def _made(text: str) -> Any:  # noqa: ANN401 - whatever the text holds
    if len(text) > _LARGEST_YAML:
        raise yaml.YAMLError(f"it has more than {_LARGEST_YAML:,} characters")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _LARGEST_YAML:
            raise yaml.YAMLError(f"its aliases stand for more than {_LARGEST_YAML:,} characters")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return the characters that *node* stands for; each node is looked at once."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise yaml.YAMLError("a part of it holds itself")
        return size
    known[id(node)] = None
    if isinstance(node, yaml.ScalarNode):
        size = len(node.value) + 1
        if node.tag != _TEXT and size > _LONGEST_NUMBER:
            raise yaml.YAMLError(f"a value that is no text has more than {_LONGEST_NUMBER:,} signs")
    else:
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        size = 1 + sum(_size(part, known) for part in parts)
    known[id(node)] = size
    return size
