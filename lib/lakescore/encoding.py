"""Encoding: documents as the JSON that machines read, whatever a model put into them."""

from __future__ import annotations

import json
import math

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
