from __future__ import annotations

import pytest

from lakescore import registry as library


@pytest.mark.usefixtures("registry")
def test_lists_become_frames_with_a_column_a_metric() -> None:
    frame = library.versions("flight-delay").to_pandas()
    assert list(frame["version"]) == [5, 3, 2, 1]
    assert list(frame["metrics.rmse"]) == [15.75, 15.75, 16.5, 18.25]
    assert list(library.history("flight-delay").to_pandas()["alias"]) == [
        *("challenger", "champion", "stable")
    ]


@pytest.mark.usefixtures("registry")
def test_lists_and_records_show_themselves_as_tables() -> None:
    listed = library.versions("flight-delay")._repr_html_()
    assert listed.startswith("<table><thead><tr><th>version</th><th>aliases</th>")
    assert listed.count("<tr>") == 5
    shown = library.describe("flight-delay@champion")._repr_html_()
    assert "<td>uri</td><td>models:/flight-delay/3</td>" in shown
    assert len(library.describe("flight-delay/1").to_pandas()) == 1
