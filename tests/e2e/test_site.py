"""The documentation site is complete, needs no network, and is refused if a link leads nowhere."""

from __future__ import annotations

import html
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sites import PYTHON, make_site

import lakescore
from lakescore import errors, registry

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("make_site", ROOT / "scripts/make_site.py")
assert _SPEC is not None
assert _SPEC.loader is not None
making: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["make_site"] = making  # a dataclass looks for its module there
_SPEC.loader.exec_module(making)
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="scripts/tools.sh site installs the tools of the site"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site's only version."""
    (index,) = make_site(tmp_path_factory).glob("*/index.html")
    return index.parent


def text_of(page: Path) -> str:
    """Return the text of a page, as `letters_of` gives it."""
    return letters_of(html.unescape(re.sub(r"<[^>]+>", "", page.read_text())))


def letters_of(text: str) -> str:
    """Return *text* without what a help text and its page do differently."""
    return re.sub(r"[\s.:;¶]", "", text)


def test_every_document_is_a_page(site: Path) -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("docs/*.ipynb")]
    pages = {path.relative_to(ROOT).with_suffix(".html") for path in documents}
    assert len(pages) > 60
    assert [page for page in sorted(pages) if not (site / page).exists()] == []


def test_the_page_of_a_command_holds_all_of_its_help(site: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "from lakescore.cli import app; app()", "--help"],
        cwd=ROOT / "lib", capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = re.findall(r"(?m)^  (\w+)  ", listed.stdout.partition("Commands:")[2])
    pages = {path.stem: path for path in (site / "commands").glob("*.html")}
    assert len(names) > 20
    assert set(names) == pages.keys() - {"index"}
    golden = ROOT / "tests/unit/golden"
    for name in names:
        file = golden / f"help-{name}.txt"
        file = file if file.exists() else golden / f"help-job-{name}.txt"
        if not file.exists():
            continue
        page = text_of(pages[name])
        for line in file.read_text().removeprefix("Usage: ").splitlines():
            assert letters_of(line) in page, (name, line)


def test_the_reference_has_every_public_name(site: Path) -> None:
    texts = {path.stem: path.read_text() for path in (site / "api").glob("*.html")}
    functions = {"score", "compare", "predict"}
    assert functions < set(lakescore.__all__)
    expected = {("lakescore", f"lakescore.{name}") for name in functions}
    expected |= {("registry", f"lakescore.registry.{name}") for name in registry.__all__}
    expected |= {
        ("errors", f"lakescore.errors.{name}")
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.LakescoreError)
    }
    expected |= {("ml", "lakescore.ml.MLFlowTransformer"), ("sql", "lakescore.sql.register")}
    assert len(expected) > 40
    assert [name for page, name in sorted(expected) if f'id="{name}"' not in texts[page]] == []
    assert "<strong>id_columns</strong>: columns that together" in texts["lakescore"]  # a key


def test_nothing_is_loaded_from_a_network(site: Path) -> None:
    loading = re.compile(r"""(?:\bsrc|<link[^>]*href|url\(|@import|\bimport|fetch\()[\s=("']*"""
                         r"""(?:https?:)?//[^\s"')]+""")  # fmt: skip
    files = [path for path in site.parent.rglob("*") if path.suffix in {".html", ".css", ".js"}]
    assert len(files) > 90
    found = {path.name: loading.findall(path.read_text()) for path in files}
    assert {name: urls for name, urls in found.items() if urls} == {}


def test_the_search_knows_the_words_of_the_pages(site: Path) -> None:
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip(";\n").removesuffix(")"))
    pages = index["terms"]["quarantin"]  # a word's stem
    assert "docs/reference" in {index["docnames"][page] for page in pages}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('<a href="other.html">', ""),
        ('<a href="other.html#part">', ""),
        ('<a href="#own">', ""),
        ('<a href="../index.html">', ""),  # the list of versions
        ('<a href="https://example.org/">', ""),  # a reader may follow it
        ('<a href="gone.html">', "page.html links to gone.html, which is not there"),
        ('<a href="other.html#gone">', "page.html links to other.html#gone, which has no such"),
        ('<a href="#gone">', "page.html links to #gone, which has no such part"),
        ('<a href="mailto:name@alias">', "page.html links to mailto:name@alias, which is not"),
        ('<img src="gone.png">', "page.html links to gone.png, which is not there"),
        ('<img src="//example.org/a.png">', "page.html loads //example.org/a.png"),
        ('<script src="https://example.org/a.js">', "page.html loads https://example.org/a.js"),
        ('<link rel="stylesheet" href="http://example.org/a.css">', "page.html loads http://ex"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, written: str, problem: str) -> None:
    (tmp_path / "page.html").write_text(f'<p id="own">{written}</p>')
    (tmp_path / "other.html").write_text('<p id="part"></p>')
    problems = making.check(tmp_path)
    assert len(problems) == bool(problem)
    assert not problem or problems[0].startswith(problem)


def test_a_style_that_loads_from_a_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/a.woff2') }")
    assert making.check(tmp_path) == ["a.css loads https://example.org/a.woff2"]


def test_a_warning_ends_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/index.md").write_text("# A page\n\n[a link](gone.md)\n")
    program = (
        "import sys; from pathlib import Path; import make_site\n"
        "make_site.run_sphinx(make_site.ROOT, Path('source'), Path('built'), '1.0.0')"
    )
    done = subprocess.run(
        [PYTHON, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT / "scripts"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "make_site.SiteRefused: Sphinx ended with 1" in done.stderr
    assert "'gone.md'" in done.stderr


def versioned(folder: Path, heading: str) -> Path:
    """Return a repository of version 0.2.0 whose changelog begins with *heading*."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n\n## 0.1.0 (2026-01-01)\n")
    return folder


@pytest.mark.parametrize(
    ("heading", "version"),
    [
        ("0.2.0 (2026-12-01)", "0.2.0"),
        ("0.2.0 (unreleased)", "unreleased"),
        ("0.3.0 (unreleased)", "unreleased"),  # after a release: pyproject.toml still names it
        ("(unreleased)", "unreleased"),
        ("0.2.01 (2026-12-01)", "unreleased"),
    ],
)
def test_only_the_documents_of_a_release_have_its_version(
    tmp_path: Path, heading: str, version: str
) -> None:
    assert making.version_of(versioned(tmp_path / "repository", heading)) == version


def test_the_site_of_a_release_is_never_written_over(tmp_path: Path) -> None:
    root = versioned(tmp_path / "repository", "0.2.0 (2026-12-01)")
    kept = tmp_path / "site/0.2.0/index.html"
    kept.parent.mkdir(parents=True)
    kept.write_text("as released")
    with pytest.raises(making.SiteRefused, match=r"0\.2\.0 exists, and a released version does no"):
        making.make(root, tmp_path / "site")
    assert kept.read_text() == "as released"


def test_the_newest_release_is_listed_first(tmp_path: Path) -> None:
    for name in ("0.9.0", "unreleased", "0.10.0", "0.10.0rc1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text("")
    (tmp_path / "empty").mkdir()
    making.list_versions(tmp_path)
    listed = re.findall(r'<a href="(.*?)/index.html">', (tmp_path / "index.html").read_text())
    assert listed == ["0.10.0", "0.10.0rc1", "0.9.0", "unreleased"]


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("[a page](other.md#part)", "[a page](other.md#part)"),
        ("[a notebook](cells.ipynb)", "[a notebook](cells.md)"),
        ("[a folder](folder)", "[a folder](folder/README.md)"),
        ("[a part](#part)", "[a part](#part)"),
        ("[code](../lib/code.py)", "code"),  # no page of the site
        ("[![a picture](a.png)](other.md)", "[![a picture](a.png)](other.md)"),
        ("![a picture](a.png)", "![a picture](a.png)"),
        ("[an address](https://example.org)", "[an address](https://example.org)"),
    ],
)
def test_a_link_leads_to_a_page_of_the_site(tmp_path: Path, link: str, wanted: str) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("other.md", "cells.md", "a.png", "folder/README.md"):
        (tmp_path / name).touch()
    page = tmp_path / "page.md"
    assert making.LINK.sub(lambda found: making.relink(found, page), link) == wanted
    shutil.rmtree(tmp_path)
