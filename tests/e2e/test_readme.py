"""What the documents show is run, and what they point at is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Shell

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/tasks/*.md")])


def test_the_quick_start_does_what_it_says(shell: Shell, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "quick_start.py").write_text("\n".join(blocks))
    done = shell.run(sys.executable, "quick_start.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0] == "models:/RandomForestRegressionModel/1"
    assert printed[1].startswith("stores 3 ")
    assert "| id|" in done.stdout
    assert "only showing top 3 rows" in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_points_at_is_there(document: Path) -> None:
    text = document.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    commands = re.findall(r"(?:^|\s|`)\./([\w/.-]+\.sh)", text)
    for target in [*links, *commands]:
        base = document.parent if target in links else ROOT
        assert (base / target).exists(), target
