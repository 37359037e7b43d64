"""Requesting: pin a version and look at a table, once for all choices that a person then makes."""

from __future__ import annotations

from lakescore import loading, registry
from lakescore.applying.errors import NameNotRead
from lakescore.applying.proposal import Request
from lakescore.applying.source import read_source
from lakescore.config import policy
from lakescore.config.tables import Table, table_keys


def request(reference: str, source: str, output: str) -> Request:
    """Pin *reference*, and read the columns of the table *source*.

    Args:
        reference: any reference.
        source: the table to score: a folder or URI, relative to `LAKESCORE_HOME`.
        output: the table for the predictions: likewise, or a name in a catalog.

    Raises:
        NameNotRead: *source* is a name in a catalog.
        Also the errors of `registry.resolve`, `loading.prepare` and `read_source`.
    """
    if "/" not in source:
        raise NameNotRead(source)
    table = read_source(Table(**table_keys(source)).address)
    loadable = loading.prepare(registry.resolve(reference, trust=policy()))
    return Request(loadable=loadable, source=table, input=source, output=output)
