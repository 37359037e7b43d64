"""Machines read JSON of a run, whatever a model gives."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lakescore import console
from lakescore.console import show_error, show_receipt, write_receipt
from lakescore.encoding import as_json
from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

NAN, INFINITY = float("nan"), float("inf")


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_numbers_that_json_has_not_are_texts_wherever_they_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = {
        "probe": [{"id": 1, "prediction": NAN}, {"id": 2, "prediction": (1.5, -INFINITY, None)}],
        "tolerance": np.float64(INFINITY),
    }
    expected = {
        "probe": [
            {"id": 1, "prediction": "NaN"},
            {"id": 2, "prediction": [1.5, "-Infinity", None]},
        ],
        "tolerance": "Infinity",
    }
    show_receipt(receipt)
    write_receipt(receipt, tmp_path / "receipt.json")
    assert strict(capsys.readouterr().out) == expected
    assert strict((tmp_path / "receipt.json").read_text()) == expected


def test_what_is_no_json_is_written_as_its_text() -> None:
    keys = {dt.date(2013, 12, 1): 1, (1, 2): 2, float("nan"): 3, None: 4, 0.5: {b"x": 5}}
    told = {"day": dt.date(2013, 12, 1), "bytes": b"x", "odd": "\udcff", 1: True, "map": keys}
    assert strict(as_json(told)) == {
        "day": "2013-12-01",
        "bytes": "b'x'",
        "odd": "\udcff",
        "1": True,
        "map": {"2013-12-01": 1, "[1, 2]": 2, "NaN": 3, "null": 4, "0.5": {"b'x'": 5}},
    }


def test_the_line_of_an_error_has_its_codes_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_context", {"job": "score"})
    show_error(ConfigError("unknown key 'modle'"))
    line = strict(capsys.readouterr().err)
    assert (line["level"], line["msg"]) == ("ERROR", "unknown key 'modle'")
    assert line["context"] == {"job": "score", "code": "config_error", "exit_code": 2}
