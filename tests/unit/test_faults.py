"""docs/faults.md names a test for each fault, and each test stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def functions_of(path: Path) -> set[tuple[str, str]]:
    tree = ast.parse(path.read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {(path.name, name) for name in names if name.startswith("test_")}


def test_the_faults_that_are_documented_are_those_that_are_tested() -> None:
    documented = set(NAMED.findall((ROOT / "docs/faults.md").read_text()))
    faults = set().union(*map(functions_of, (ROOT / "tests/faults").glob("test_*.py")))
    others = ["cluster/test_jobs.py", "storage/test_s3.py", "storage/test_server.py",
              "unit/test_environments.py", "unit/test_hostile_models.py", "unit/test_logs.py",
              "unit/test_sharing.py", "registry/test_serving.py",
              "spark/test_isolation.py", "spark/test_equality.py"]  # fmt: skip
    known = faults.union(*(functions_of(ROOT / "tests" / file) for file in others))
    assert faults <= documented <= known
