from __future__ import annotations

import pytest

from lakescore.registry.errors import BadReference
from lakescore.registry.reference import (
    ByAlias,
    ByLoggedModel,
    ByVersion,
    Latest,
    Query,
    Reference,
    parse,
)

HEX = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("flight-delay/3", ByVersion("flight-delay", 3)),
        ("models:/flight-delay/3", ByVersion("flight-delay", 3)),
        ("flight-delay/007", ByVersion("flight-delay", 7)),
        ("flight-delay/999999999", ByVersion("flight-delay", 999_999_999)),
        ("flight-delay@champion", ByAlias("flight-delay", "champion")),
        ("models:/flight-delay@champion", ByAlias("flight-delay", "champion")),
        ("flight-delay@blue_green-2", ByAlias("flight-delay", "blue_green-2")),
        ("flight-delay/latest", Latest("flight-delay")),
        ("models:/flight-delay/latest", Latest("flight-delay")),
        ("flight-delay@latest", ByAlias("flight-delay", "latest")),  # an alias like any other
        ("Flight delay, night/1", ByVersion("Flight delay, night", 1)),  # MLflow allows it
        ("main.ops.delay/3", ByVersion("main.ops.delay", 3)),  # Unity Catalog
        # A model's name may hold an @: an alias begins at the last one.
        ("crew@night@champion", ByAlias("crew@night", "champion")),
        ("crew@night/3", ByVersion("crew@night", 3)),
        ("crew@night/latest", Latest("crew@night")),
        (f"models:/m-{HEX}", ByLoggedModel(f"m-{HEX}")),
        ("delay?where=metrics.rmse < 12", Query("delay", "metrics.rmse < 12", None)),
        ("delay?order_by=metrics.rmse", Query("delay", None, "metrics.rmse")),
        (
            "delay?where=tags.kind = 'trees'&order_by=metrics.rmse desc",
            Query("delay", "tags.kind = 'trees'", "metrics.rmse desc"),
        ),
        ("models:/delay?where=version = 1", Query("delay", "version = 1", None)),
        ("crew@night?where=version = 1", Query("crew@night", "version = 1", None)),
        # Paths, schemes and question marks are the filter's own affair.
        (
            "delay?where=tags.from = 's3://lake/x?y'",
            Query("delay", "tags.from = 's3://lake/x?y'", None),
        ),
    ],
)
def test_every_form_is_read(text: str, read: Reference) -> None:
    assert parse(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "models:/",
        "flight-delay",  # neither version nor alias: nothing is guessed
        "flight-delay/",
        "flight-delay/3/extra",
        "flight-delay/3@champion",
        "flight-delay/-1",
        "flight-delay/+1",
        "flight-delay/1.5",
        "flight-delay/1 ",
        "flight-delay/1e3",
        "flight-delay/0x3",
        "flight-delay/3_0",
        "flight-delay/３",  # noqa: RUF001 - a digit to str.isdigit, and to int()
        "flight-delay/١",  # noqa: RUF001 - likewise
        "flight-delay/²",
        "flight-delay/1234567890",  # beyond a database's integer
        "flight-delay/LATEST",
        "flight-delay/Production",  # stages are gone
        "@champion",
        "/3",
        "flight-delay@",
        "flight-delay@champ ion",
        "flight-delay@champion ",
        "flight-delay@champion;",
        f"m-{HEX}",  # a logged model is named by its URI only
        f"models:/m-{HEX[:-1]}",
        f"models:/m-{HEX.upper()}",
        f"models:/m-{HEX}/artifacts",
        "../etc",
        "..",
        "models:/../x",
        "models:/x/../../3",
        "a..b/3",
        "..\\x/3",
        "%2e%2e/3",
        "x%2Fy/3",
        "flight-delay/3\n",  # `$` would match before it
        "flight\ndelay/3",
        "flight\x00delay/3",
        "flight\x1b[31mdelay/3",  # would colour, or move, what a terminal shows
        "flight\x7fdelay/3",
        "runs:/0123456789abcdef/model",
        "s3://bucket/model",
        "file:/etc/passwd",
        "file:///etc/passwd",
        "dbfs:/model",
        "mlflow-artifacts:/1/model",
        "https://example.com/model",
        "C:\\model/3",
        "models://profile@databricks/flight-delay/3",
        "models:/models:/flight-delay/3",
        "flight-delay?",
        "flight-delay?where=",
        "flight-delay?order_by=",
        "flight-delay?limit=1",
        "?where=version = 1",
        "flight-delay/1?where=version = 1",
    ],
)
def test_what_has_none_of_the_forms_is_refused(text: str) -> None:
    with pytest.raises(BadReference) as refused:
        parse(text)
    assert refused.value.exit_code == 3
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["a" * 100_000 + "/1", "a?where=" + "(" * 20_000])
def test_a_very_long_text_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadReference, match="longer than 1000 characters") as refused:
        parse(text)
    assert len(str(refused.value)) < 500
