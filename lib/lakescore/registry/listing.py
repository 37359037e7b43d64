"""List registered models and their versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lakescore.registry import joining, reading
from lakescore.registry.pushdown import SplitFilter
from lakescore.registry.query import Filter, Order
from lakescore.registry.reference import check_name
from lakescore.registry.store import answering, connect, is_unity_catalog
from lakescore.registry.table import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.registry.record import RegisteredModel, VersionRecord

_MOST_CARDS_READ = 10
"""Maximum number of versions whose files are read: a few requests each, without a recorded card."""
_COLUMNS = ("version", "aliases", "created_at", "run_name", "metrics")
_MODEL_COLUMNS = ("name", "versions", "latest", "aliases", "tags", "changed_at")


def models(
    pattern: str = "*", *, tags: Mapping[str, str | None] | None = None
) -> Rows[RegisteredModel]:
    """Return the registered models, sorted by name: two requests, or more for thousands of models.

    Args:
        pattern: a pattern of the name, as in a shell: `flight-*`.
        tags: the tags that a model must have; the value None allows any value.

    Raises:
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        return Rows(joining.all_models(client, pattern, tags or {}), _MODEL_COLUMNS)


def versions(
    name: str,
    *,
    where: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    whole: bool | None = False,
) -> Rows[VersionRecord]:
    """Return the versions of the registered model *name*, newest first.

    The number of requests is small: one per thousand versions, then one per hundred runs and one
    per hundred logged models. The facts of the files are known if `register` recorded them.
    Otherwise they take a few requests per version, which only *whole*, or a filter on such a fact,
    causes.

    Args:
        name: the registered model's name.
        where: a filter; see `lakescore.registry.query`.
        order_by: `COLUMN [asc|desc]`; versions that lack the value come last.
        limit: maximum number of versions; None for all.
        whole: whether every record must have its `card`: signature, files, flavours; None: only if
            there are at most ten versions.

    Raises:
        ModelNotFound: there is no such registered model.
        BadFilter: *where* or *order_by* cannot be parsed; the error says where.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    condition, order = Filter(where) if where else None, Order(order_by) if order_by else None
    client = connect()
    with answering():
        model = reading.model_named(client, name)
        conditions = _server_conditions(condition)
        most = limit if order is None and not (condition and condition.plan.here) else None
        registered = reading.versions_of(client, name, conditions=conditions, limit=most)
        records = joining.records_of(client, model, registered)
        if whole or (condition and condition.plan.files) or (order and order.files):
            records = joining.add_cards(client, records)
        matching = condition.matching(records) if condition else records
        listed = (order.sorted(matching) if order else matching)[:limit]
        if whole is None and len(listed) <= _MOST_CARDS_READ:
            listed = joining.add_cards(client, listed)
    return Rows(listed, _COLUMNS)


def explain(name: str, where: str | None) -> SplitFilter:
    """Return the conditions of *where* that the server evaluates, and those evaluated here.

    Raises:
        BadFilter: *where* cannot be parsed; the error says where.
    """
    condition = Filter(where) if where else None
    plan = condition.plan if condition else SplitFilter((), (), files=False)
    return replace(plan, server=(f"name = '{name}'", *_server_conditions(condition)))


def _server_conditions(condition: Filter | None) -> Sequence[str]:
    """Return the conditions for the server; a catalog can filter only by name."""
    return () if condition is None or is_unity_catalog() else condition.plan.server
