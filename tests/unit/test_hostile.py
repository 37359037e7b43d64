"""Names, aliases and tags that people and machines type to reach something else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakescore.errors import LakescoreError
from lakescore.registry.errors import BadFilter, BadName, BadReference
from lakescore.registry.query import Filter, Order
from lakescore.registry.reference import Query, check_alias, check_name, check_tag, parse
from lakescore.wording import redact

HOSTILE_NAMES = [
    "",
    " ",
    ".",
    "..",
    "../etc/passwd",
    "..\\windows",
    "a/b",
    "a\\b",
    "models:/../a",
    "file:",
    "file:///etc/passwd",
    "s3://bucket/model",
    "runs:/0123/model",
    "C:",
    "..%2fetc",
    "%2e%2e",
    "%2E%2E%2F",
    "..%252f",
    "a%00b",
    "a?version=3",
    "a#fragment",
    "a\x00b",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\x1b[31m",
    "a\x7f",
    "a\x85b",  # a line break to some
    "a\u2028b",  # likewise
    "a\u202eb",  # reverses the text after it
    "a\u200bb",  # has no width
    "\ufeffa",
    "a\ud800",  # half a character
    "．．／etc",  # noqa: RUF001 - dots and a slash, once they are normalised
    "a？b",  # noqa: RUF001 - likewise
    " a",
    "a ",
    "a" * 251,
    "m-" + "0123456789abcdef" * 2,  # models:/m-... is a logged model
]
HOSTILE_ALIASES = [
    *(
        "",
        " ",
        "a b",
        "a.b",
        "a/b",
        "a@b",
        "../a",
        "a:b",
        "a?b",
        "a#b",
        "a%2f",
        "a\nb",
        "champion\n",
    ),
    *("\x1b[31m", "a\u202eb", "latest", "LATEST", "v1", "V12", "x" * 251),
]
HOSTILE_TAGS = [
    *(
        "",
        " ",
        "..",
        "../a",
        "a/../b",
        "a\nb",
        "a\x00",
        "a\x1b[0m",
        "a\u202eb",
        "%2e%2e",
        "x" * 251,
    ),
    *("lakescore.card", "lakescore.digest"),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_refused_everywhere(name: str) -> None:
    with pytest.raises(BadName) as refused:
        check_name(name)
    assert str(refused.value).isprintable()
    for reference in (f"{name}/3", f"{name}@champion", f"models:/{name}/3", f"{name}/latest"):
        with pytest.raises(BadReference) as refused_too:
            parse(reference)
        assert str(refused_too.value).isprintable()
        assert refused_too.value.exit_code == 3


@pytest.mark.parametrize("alias", HOSTILE_ALIASES)
def test_a_hostile_alias_is_refused(alias: str) -> None:
    with pytest.raises(BadName) as refused:
        check_alias(alias)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("key", HOSTILE_TAGS)
def test_a_hostile_tag_is_refused(key: str) -> None:
    with pytest.raises(BadName) as refused:
        check_tag(key, "value")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("value", ["a\x1b[31mb", "a\x00", "a\nb", "\u202e", "x" * 5001])
def test_a_hostile_value_of_a_tag_is_refused(value: str) -> None:
    with pytest.raises(BadName) as refused:
        check_tag("team", value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "name", ["flight-delay", "main.ops.delay", "Flight delay, night", "crew@night", "Ключ", "100 %"]
)
def test_names_that_are_used_are_allowed(name: str) -> None:
    assert check_name(name) == name
    check_tag("team/crew: a-b_c.d", f"https://wiki/page?x=1#{name}")


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_reference_or_refused_in_one_line(text: str) -> None:
    try:
        asked = parse(text)
    except BadReference as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
        return
    for part in vars(asked).values() if not isinstance(asked, Query) else [asked.name]:
        assert str(part).isprintable()
        assert ".." not in str(part)
        assert not set(str(part)) & set("/\\:?#")


@given(st.text(alphabet=st.sampled_from("a./\\%2eEfF:@?#=& m\x00\n"), max_size=30))
def test_no_mixture_of_tricks_is_taken_for_a_name(name: str) -> None:
    with contextlib.suppress(BadName):
        assert not set(check_name(name)) & set("/\\:?#\x00\n")
        assert ".." not in name
        assert not {"%2e", "%2f"} & {name.lower()[n : n + 3] for n in range(len(name))}


@given(st.text(max_size=200))
def test_whatever_is_typed_is_a_filter_or_refused_in_one_line(text: str) -> None:
    for read in (Filter, Order):
        try:
            read(text)
        except BadFilter as error:
            assert str(error).isprintable()  # noqa: PT017 - both outcomes are right


WORDS = [
    *("and", "or", "not", "in", "like", "is", "null", "between", "select", "from", "union", "case"),
    *(
        "(",
        ")",
        ",",
        ";",
        "--",
        "/*",
        "*",
        "=",
        "<",
        "!=",
        "'a'",
        "1",
        "-",
        "metrics.rmse",
        "tags.a",
    ),
    *("version", "aliases", "reflect('x', 'y')", "__class__", "[0]", "`a b`", "exists", "::", "@"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_no_mixture_of_words_reaches_further_than_a_version(text: str) -> None:
    try:
        where = Filter(text)
    except BadFilter as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
        return
    assert where.matching([]) == []
    for condition in where.plan.server:
        assert condition.startswith(("tags.`", "version_number ", "run_id ", "source_path "))


SECRET = st.text(
    alphabet=st.characters(whitelist_categories=("L", "N"), whitelist_characters="-._~/:"),
    min_size=8,
).filter(lambda text: not text.partition("/")[0].isdigit())


@given(secret=SECRET, scheme=st.sampled_from(["postgresql", "mysql+pymysql", "https", "s3"]))
def test_a_password_never_reaches_an_error(secret: str, scheme: str) -> None:
    uri = f"{scheme}://user:{secret}@host.example:5432/mlflow"
    for text in (str(LakescoreError(f"no answer of {uri} (refused)")), redact(uri)):
        assert f":{secret}@" not in text
        assert "***@host.example:5432/mlflow" in text
