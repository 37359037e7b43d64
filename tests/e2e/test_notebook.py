"""Notebooks are run by Jupyter's own client, in a kernel of their own."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from deltalake import DeltaTable
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

if TYPE_CHECKING:
    from conftest import Shell

ROOT = Path(__file__).parents[2]


def run(notebook: Any, folder: Path, shell: Shell, **options: Any) -> list[list[Any]]:
    """Run all cells in *folder*; return the outputs of each cell of code."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - shell.environment.keys():
            patch.delenv(name)
        client = NotebookClient(notebook, timeout=500, kernel_name="python3", **options)
        client.execute(cwd=str(folder))
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def shown(outputs: list[Any]) -> str:
    """Return what the cell shows as HTML."""
    return "".join(output.data.get("text/html", "") for output in outputs if "data" in output)


def printed(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_the_notebook_of_the_documents_runs(shell: Shell, tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    assert all(
        not cell.get("outputs") for cell in notebook.cells
    )  # none are kept in the repository
    _, _, scored, compared, report, predicted, _ = run(notebook, tmp_path, shell)

    assert "<th>scored</th><td>1000</td>" in shown(scored)
    assert re.search(r'<progress max="1" value="1".*task 1 of 1, [\d,]+ rows/s', shown(scored))
    table = DeltaTable(str(tmp_path / "notebook-home/lake/predictions"))
    assert table.to_pandas()["model_version"].tolist() == [2] * 1000

    assert "<td>1</td><td>models:/flight-delay/2</td>" in shown(compared)
    frame = re.search(
        r'^<iframe .* sandbox="([^"]*)" .*srcdoc="(.*)"></iframe>$', shown(report), re.DOTALL
    )
    assert frame is not None
    assert frame[1] == "allow-scripts allow-downloads"  # the page cannot reach into the notebook
    page = html.unescape(frame[2])
    assert "default-src 'none'" in html.unescape(page)  # so a browser lets it ask no network
    assert (tmp_path / "notebook-home/reports").is_dir()
    (file,) = (tmp_path / "notebook-home/reports").glob("*.html")
    assert page == file.read_text()

    values = table.to_pandas().set_index("id")["prediction"]
    line = re.search(r"\|\s*0\|\s*(-?[\d.]+)\s*\|\s*2\|", printed(predicted))
    assert line is not None
    assert float(line[1]) == pytest.approx(values[0])


def test_an_error_in_a_notebook_is_one_line(shell: Shell, tmp_path: Path) -> None:
    job = "model='flight-delay@champion', input='lake/x', output='lake/y', id_columns=['id']"
    cells = [
        "import lakescore",
        f"lakescore.score({job})",
        f"lakescore.score({job.replace('input', 'inpt')})",
        f"%env LAKESCORE_VERBOSE=1\nlakescore.score({job})",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    _, missing, wrong, verbose = run(notebook, tmp_path, shell, allow_errors=True)
    errors = [outputs[-1] for outputs in (missing, wrong, verbose)]  # after the job's own lines
    assert [error.ename for error in errors] == [
        "NoTrackingStore",
        "ConfigError",
        "NoTrackingStore",
    ]
    (line,) = errors[0].traceback
    assert line.startswith("NoTrackingStore: ")
    (line,) = errors[1].traceback
    assert line.startswith(
        "ConfigError: lakescore.score: unknown key 'inpt' (did you mean 'input'?)"
    )
    assert len(errors[2].traceback) > 5
