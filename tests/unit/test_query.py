from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lakescore.registry.errors import BadFilter
from lakescore.registry.query import Filter, Order
from lakescore.registry.record import Card, VersionRecord


def record(version: int, **facts: Any) -> VersionRecord:
    """Return a version that has only the given facts."""
    nothing: dict[str, Any] = {
        "name": "delay", "status": "READY", "description": None, "run_id": None, "run_name": None,
        "source": None, "logged_model_id": None, "params": {}, "metrics": {}, "tags": {},
        "aliases": (), "created_at": datetime(2026, 1, version, tzinfo=UTC),
        "updated_at": datetime(2026, 2, version, tzinfo=UTC),
    }  # fmt: skip
    return VersionRecord(**nothing | facts, version=version)


CARD = Card(
    signature=None,
    flavours=("sklearn", "shap"),
    formats=("skops",),
    mlflow_version="3.17.2",
    python_version="3.11.7",
    files=None,
    size=1000,
    digest=None,
)
RECORDS = [
    record(
        1,
        description="it's",
        metrics={"rmse": 12.0},
        params={"max_depth": "9"},
        tags={"team": "stores-ml"},
    ),
    record(2, metrics={"rmse": 9.0}, params={"max_depth": "10"}, tags={"team": "ops", "a.b": "x"}),
    record(3, params={"max_depth": "deep"}, aliases=("champion", "stable"), card=CARD),
    record(4, metrics={"rmse": float("nan")}, run_name="nightly 7", description="50% off"),
]


def matches(where: str) -> list[int]:
    return [record.version for record in Filter(where).matching(RECORDS)]


@pytest.mark.parametrize(
    ("where", "versions"),
    [
        ("metrics.rmse < 12 and tags.team = 'ops' and params.max_depth > 8", [2]),
        ("metrics.rmse <= 12", [1, 2]),
        ("metrics.rmse < 10 or aliases = 'stable'", [2, 3]),
        ("not metrics.rmse < 10", [1, 3, 4]),  # the exact opposite, also of what has no rmse
        ("metrics.rmse between 9 and 10", [2]),
        ("metrics.rmse is null", [3]),
        ("metrics.rmse is not null", [1, 2, 4]),
        ("params.max_depth > 9", [2]),  # as numbers, though they are text; 'deep' is none
        ("params.max_depth > '9'", [3]),  # text against text
        ("tags.team != 'ops'", [1, 3, 4]),  # MLflow's own search drops 3 and 4
        ("tags.team not in ('ops', 'stores-ml')", [3, 4]),
        ("not tags.team like 'o%'", [1, 3, 4]),
        ("tags.team != 'ops' and tags.team is not null", [1]),
        ("tags.a.b = 'x'", [2]),
        ("tags.`a.b` = 'x'", [2]),
        ("tags.\"a.b\" = 'x'", [2]),
        ("description = 'it''s'", [1]),
        ("aliases = 'champion'", [3]),
        ("'champion' = aliases", [3]),
        ("aliases != 'champion'", [1, 2, 4]),
        ("aliases in ('challenger', 'stable')", [3]),
        ("aliases like 'champ%'", [3]),
        ("tags.team not like 'o%'", [1, 3, 4]),  # as `not tags.team like` above
        ("run_name not ilike 'NIGHTLY%'", [1, 2, 3]),
        ("'champion' in aliases", [3]),
        ("aliases is null", [1, 2, 4]),
        ("flavours = 'shap'", [3]),
        ("size >= 1000 and mlflow_version like '3.%'", [3]),
        ("run_name like 'nightly _'", [4]),
        ("run_name ilike 'NIGHTLY%'", [4]),
        ("description like '50% off'", [4]),
        ("version in (1, 3)", [1, 3]),
        ("version > -1 and version <> 2", [1, 3, 4]),
        ("created_at >= '2026-01-03'", [3, 4]),
        ("created_at between '2026-01-02' and '2026-01-03T00:00:00+00:00'", [2, 3]),
        ("updated_at < '2026-02-02T01:00:00+02:00'", [1]),
        ("status = 'READY' and (version = 1 or (version = 2))", [1, 2]),
    ],
)
def test_a_filter_finds(where: str, versions: list[int]) -> None:
    assert matches(where) == versions


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ("metrics.rmse <", r"a value or a condition is missing \(at character 14: '<'\)"),
        ("version = 1 or", r"is missing \(at character 13: 'or'\)"),
        ("(version = 1", r"a '\)' is missing \(at character 12: '1'\)"),
        ("version = 1 2", r"this does not belong here \(at character 13: '2'\)"),
        ("tags.team = 'ops", r"a quote is not closed \(at character 13: \"'ops\"\)"),
        ("version = 1 and metric.rmse < 3", r"did you mean 'metrics'.*character 17: 'metric.rmse"),
        ("version = 1 and upper(tags.a) = 'A'", r"at character 17: "),
        ("version = (select 1)", r"is not a column or condition"),
        ("version = 1 and aliases > 'a'", r"with =, !=, in and like \(at character 17: "),
        ("version = 1\nor version = 2", r"characters that cannot be seen"),
        ("(" * 5000, "longer than 4000 characters"),
    ],
)
def test_an_error_points_at_the_place(where: str, place: str) -> None:
    with pytest.raises(BadFilter, match=place):
        Filter(where)


@pytest.mark.parametrize(
    ("order_by", "versions"),
    [
        ("metrics.rmse", [2, 1, 3, 4]),  # those without a value come last
        ("metrics.rmse desc", [1, 2, 3, 4]),
        ("version DESC", [4, 3, 2, 1]),
        ("created_at asc", [1, 2, 3, 4]),
        ("params.max_depth", [2, 1, 3, 4]),  # 'deep' is no number, so all are text
        ("tags.team", [2, 1, 3, 4]),
    ],
)
def test_versions_are_ordered(order_by: str, versions: list[int]) -> None:
    assert [record.version for record in Order(order_by).sorted(RECORDS)] == versions


@pytest.mark.parametrize("order_by", ["aliases", "metrics.a, version", "1", "rand()", "version up"])
def test_what_is_no_order_is_refused(order_by: str) -> None:
    with pytest.raises(BadFilter):
        Order(order_by)


@pytest.mark.parametrize(
    ("where", "server", "here"),
    [
        ("tags.team = 'ops'", ["tags.`team` = 'ops'"], []),
        ("tags.team like 'o%'", ["tags.`team` LIKE 'o%'"], []),
        ("(tags.a = 'x' and version >= 3)", ["tags.`a` = 'x'", "version_number >= 3"], []),
        ("version != 3 and run_id = 'a'", ["version_number != 3", "run_id = 'a'"], []),
        ("run_id in ('a', 'b')", ["run_id IN ('a', 'b')"], []),
        ("source = 's3://x'", ["source_path = 's3://x'"], []),
        # Filters that MLflow refuses, or answers differently.
        ("tags.team != 'ops'", [], ["tags.team <> 'ops'"]),
        ("tags.team not like 'o%'", [], ["tags.team NOT LIKE 'o%'"]),
        ("tags.team ilike 'o%'", [], ["tags.team ILIKE 'o%'"]),
        ("tags.n = 5", [], ["tags.n = 5"]),  # '5.0' is 5 here
        ("tags.team = 'it''s'", [], ["tags.team = 'it''s'"]),
        ("tags.team = 'a' or version = 1", [], ["tags.team = 'a' OR version = 1"]),
        ("not version = 1", [], ["NOT version = 1"]),
        ("version = 1.5", [], ["version = 1.5"]),
        ("aliases = 'champion'", [], ["aliases = 'champion'"]),
        ("metrics.rmse < 3 and tags.a = 'x'", ["tags.`a` = 'x'"], ["metrics.rmse < 3"]),
    ],
)
def test_the_server_gets_what_it_can_filter(where: str, server: list[str], here: list[str]) -> None:
    plan = Filter(where).plan
    assert (list(plan.server), list(plan.here), plan.files) == (server, here, False)


def test_a_filter_on_what_files_say_asks_the_files() -> None:
    assert Filter("flavours = 'sklearn'").plan.files
    assert Order("size desc").files
    assert not Filter("tags.size = 'x'").plan.files
