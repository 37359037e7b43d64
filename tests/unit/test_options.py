"""The names that a job's file can choose from: each is declared once, with its meaning."""

from __future__ import annotations

from typing import get_args

from lakescore.engines import choosing
from lakescore.options import ENGINES, FAMILY_ENGINES, NULL_RULES, EngineName, NullRule
from lakescore.wording import described, either


def test_every_engine_has_a_meaning_and_makes_plans() -> None:
    assert {*get_args(EngineName)} == {"auto", *ENGINES}
    assert choosing.PREPARE.keys() == ENGINES.keys()
    assert {*FAMILY_ENGINES} <= {*get_args(EngineName)}


def test_every_rule_for_nulls_has_a_meaning() -> None:
    assert get_args(NullRule) == tuple(NULL_RULES)


def test_choices_read_as_a_sentence() -> None:
    assert [either(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a or b", "a, b or c"]
    assert either(described({"a": "one", "b": "two"}), last=", or ") == "a (one), or b (two)"
