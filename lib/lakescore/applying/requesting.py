"""Requesting: pin a version and look at a table, once for all choices that a person then makes."""

from __future__ import annotations

from lakescore import loading, registry
from lakescore.applying.errors import NameNotRead
from lakescore.applying.proposal import Request
from lakescore.applying.source import read_columns, read_source
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


def outline(reference: str, source: str, output: str) -> Request:
    """Return the request that `request` returns, without a copy of the version's files.

    Only the MLmodel file of the version and the log of the table are read, never rows. So this does
    not see what only the version's other files show: a digest that differs, files that the trust
    policy refuses, and categories of a boosting library. The job sees it.

    Args:
        reference: any reference.
        source: a folder, relative to `LAKESCORE_HOME`, which the caller has checked.
        output: as for `request`.

    Raises:
        The errors of `registry.outline`, `loading.outline` and `read_columns`.
    """
    table = read_columns(Table(**table_keys(source)).address)
    loadable = loading.outline(registry.outline(reference, trust=policy()))
    return Request(loadable=loadable, source=table, input=source, output=output)
