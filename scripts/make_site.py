"""Make the documentation site: one folder per version, and a page that lists them.

The pages are the Markdown files of the repository as they are, the pages of scripts/site/pages, one
page per command, made of its `--help`, and the API reference, made of the docstrings.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from functools import partial
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
SITE = ROOT / "scripts/site"
UNRELEASED = "unreleased"
LINK = re.compile(r"(!?\[(?:[^][]|\[[^]]*\]\([^)]*\))*\])\(([^)#\s]+)((?:#[^)]*)?)\)")
GRAPH = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "object": "data"}
"""The elements that load a file, and the attribute that names it."""


class SiteRefused(Exception):
    """The site cannot be made."""


def main() -> None:
    """Make the site of what is here."""
    parser = argparse.ArgumentParser(prog="site.sh", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist/site",
                        help="folder of all versions; default: dist/site")  # fmt: skip
    try:
        made = make(ROOT, parser.parse_args().folder)
    except SiteRefused as error:
        sys.exit(f"error: {error}")
    print(f"site: {made / 'index.html'}", file=sys.stderr)


def make(root: Path, folder: Path) -> Path:
    """Make the site of the repository *root* in a folder of *folder*; return this one.

    Raises:
        SiteRefused: the site of this release exists, Sphinx has a warning, or a link leads nowhere.
    """
    version = version_of(root)
    target = folder / version
    if version != UNRELEASED and target.exists():
        raise SiteRefused(f"{target} exists, and a released version does not change; remove it")
    with tempfile.TemporaryDirectory(prefix="lakescore-site-") as working:
        source, built = Path(working, "source"), Path(working, "built")
        gather(root, source)
        write_commands(root, source / "commands")
        run_sphinx(root, source, built, version)
        for path in built.rglob("*.html"):
            path.write_text(mend(path.read_text()))
        if problems := check(built):
            raise SiteRefused("\n".join([f"{len(problems)} problems:", *problems]))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(built, target, ignore=shutil.ignore_patterns(".*", "objects.inv"))
    list_versions(folder)
    return target


def version_of(root: Path) -> str:
    """Return the version whose documents *root* has: that of a release, or `unreleased`."""
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    heading = re.search(r"(?m)^## (.*)$", (root / "CHANGELOG.md").read_text())
    is_released = heading is not None and heading[1].startswith(f"{version} (2")
    return str(version) if is_released else UNRELEASED


def gather(root: Path, source: Path) -> None:
    """Copy all pages of *root* and of the site into the new folder *source*."""
    shutil.copytree(root / "docs", source / "docs")
    for path in root.glob("*.md"):
        shutil.copy(path, source)
    shutil.copytree(SITE / "pages", source, dirs_exist_ok=True)
    for path in source.rglob("*.ipynb"):
        path.with_suffix(".md").write_text(text_of(path))
        path.unlink()
    for path in source.rglob("*.md"):
        text = LINK.sub(partial(relink, page=path), path.read_text())
        path.write_text(GRAPH.sub(lambda graph: as_text(graph[1]), text))


def text_of(notebook: Path) -> str:
    """Return the cells of a notebook as Markdown."""
    cells = json.loads(notebook.read_text())["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(
        f"```python\n{text}\n```" if kind == "code" else text for kind, text in texts
    )


def as_text(graph: str) -> str:
    """Return a graph of Mermaid as text: nothing here draws it without a network."""
    return "```text\n" + graph.replace("<br/>", " ") + "```"


def relink(link: re.Match[str], page: Path) -> str:
    """Return a link of *page* that leads to a page of the site, or its text if there is none."""
    text, target, anchor = link.groups()
    text = text[0] + LINK.sub(lambda inner: relink(inner, page), text[1:])
    path = page.parent / target
    if path.suffix == ".ipynb":
        target = target.removesuffix(".ipynb") + ".md"
    elif (path / "README.md").exists():
        target = f"{target.rstrip('/')}/README.md"
    elif not path.is_file():
        return link[0] if urlsplit(target).scheme else text.strip("[]")
    return f"{text}({target}{anchor})"


def write_commands(root: Path, folder: Path) -> None:
    """Write one page per command, made of its `--help`, and the page that lists them."""
    listed = Help.parse(help_of(root)).sections["Commands"]
    summaries = {}
    for name, _ in listed:
        text = Help.parse(help_of(root, name))
        summaries[name] = text.paragraphs[0]
        (folder / f"{name}.md").write_text(text.to_markdown(f"lakescore {name}"))
    index = folder / "index.md"
    lines = [f"| [{name}]({name}.md) | {plain(summary)} |" for name, summary in summaries.items()]
    toctree = ["```{toctree}", ":hidden:", "", *summaries, "```", ""]
    head = [index.read_text(), "| command | does |", "|---|---|"]
    index.write_text("\n".join([*head, *lines, "", *toctree]))


def help_of(root: Path, *command: str) -> str:
    """Return what `lakescore COMMAND --help` prints."""
    code = "from lakescore.cli import app; app(prog_name='lakescore')"
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", code, *command, "--help"],
        env={**os.environ, "PYTHONPATH": str(root / "lib"), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SiteRefused(f"lakescore {' '.join(command)} --help failed: {done.stderr}")
    return done.stdout


@dataclass
class Help:
    """The parts of a help text: usage, paragraphs, and sections of names with their meaning."""

    usage: str
    paragraphs: list[str] = field(default_factory=list)
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Help":
        """Read a help text of 80 columns."""
        usage, *blocks = re.split(r"\n\s*\n", text.strip("\n"))
        parts = cls(joined(usage.removeprefix("Usage: ").splitlines()))
        keys: list[tuple[str, str]] | None = None
        for block in blocks:
            head, *lines = block.splitlines()
            if not head.startswith(" "):
                parts.sections[head.rstrip(":")] = list(records(lines))
            elif block.strip() == "Keys of the job's file:":
                keys = parts.sections.setdefault(block.strip(" :"), [])
            elif keys is not None:
                name, _, meaning = joined(block.splitlines()).partition(": ")
                keys.append((name, meaning))
            elif block.strip().startswith("Exit codes: "):
                codes = joined(block.splitlines()).removeprefix("Exit codes: ").rstrip(".")
                split = [code.partition(" ") for code in codes.split("; ")]
                parts.sections["Exit codes"] = [(code, meaning) for code, _, meaning in split]
            else:
                parts.paragraphs.append(joined(block.splitlines()))
        return parts

    def to_markdown(self, title: str) -> str:
        """Return the page of a command."""
        summary, *more = map(plain, self.paragraphs)
        parts = [f"# {title}", summary, f"```text\n{self.usage}\n```", *more]
        for name, lines in self.sections.items():
            parts.append(f"## {name}")
            parts += [f"`{term}`\n: {plain(meaning)}" for term, meaning in lines]
        return "\n\n".join(parts) + "\n"


def records(lines: list[str]) -> list[tuple[str, str]]:
    """Return the names and meanings of a section; a meaning continues further to the right."""
    parts: list[list[str]] = []
    for line in lines:
        if len(line) - len(line.lstrip()) > len("  "):
            parts[-1].append(line)
        else:
            name, *meaning = re.split(r" {2,}", line.strip(), maxsplit=1)
            parts.append([name, *meaning])
    return [(name, joined(meaning)) for name, *meaning in parts]


def joined(lines: list[str]) -> str:
    """Return lines as one; a line may also end after a hyphen in a word."""
    text = "\n".join(line.strip() for line in lines)
    return re.sub(r"(?<=\w-)\n", "", text).replace("\n", " ")


def plain(text: str) -> str:
    """Return *text* so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", text)


def run_sphinx(root: Path, source: Path, built: Path, version: str) -> None:
    """Make the HTML pages; each warning of Sphinx is an error.

    Raises:
        SiteRefused: Sphinx has a warning or an error.
    """
    words = ["-W", "--keep-going", "-q", "-n", "-E", "-b", "html", "-c", str(SITE)]
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", "sphinx", *words, "-d", f"{built}.doctrees", source, built],
        env={**os.environ, "PYTHONPATH": str(root / "lib"), "LAKESCORE_SITE_VERSION": version},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or done.stderr.strip():
        raise SiteRefused(f"Sphinx ended with {done.returncode}:\n{done.stdout}{done.stderr}")


MENDED = {
    'class="caption" role="heading"': 'class="caption" role="heading" aria-level="2"',
    '<aside class="sidebar-drawer': '<aside aria-label="All pages" class="sidebar-drawer',
    '<aside class="toc-drawer': '<aside aria-label="This page" class="toc-drawer',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    '<div id="search-results">': '<h1>Search</h1>\n<div id="search-results">',
    '<th class="head"><p></p></th>': "<td></td>",
    "</strong> -- ": "</strong>: ",
    "<pre>": '<pre tabindex="0">',
}
"""What Sphinx and furo write, and what people need who have a keyboard or a screen reader only."""
PARAMETERS = re.compile(r'<dl>\n((?:<dd><em class="sig-param">.*</dd>\n)+)</dl>')
"""The parameters of a signature, which Sphinx writes as a list of meanings without terms."""


def mend(text: str) -> str:
    """Return an HTML page that everybody can read."""
    for written, wanted in MENDED.items():
        text = text.replace(written, wanted)
    return PARAMETERS.sub(
        lambda terms: re.sub(r"(?m)^<dd>(.*)</dd>$", r'<div class="parameter">\1</div>', terms[1]),
        text,
    )


class Page(HTMLParser):
    """The anchors, links and loaded files of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element names."""
        given = {key: value or "" for key, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loads.append(given["href"])
        elif LOADS.get(tag) in given:
            self.loads.append(given[LOADS[tag]])


def check(built: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and each file that a network would send."""
    pages = {path: Page(path.read_text()) for path in built.rglob("*.html")}
    problems = []
    for path, page in pages.items():
        name = path.relative_to(built)
        problems += [f"{name} loads {url}" for url in page.loads if is_remote(url)]
        for url in [*page.links, *page.loads]:
            parts = urlsplit(url)
            if is_remote(url) or parts.scheme == "data" or url == all_versions(name):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{name} links to {url}, which is not there")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors | {""}:
                problems.append(f"{name} links to {url}, which has no such part")
    for path in built.rglob("*.css"):
        urls = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", path.read_text())
        problems += [f"{path.name} loads {url}" for url in urls if is_remote(url)]
    return problems


def is_remote(url: str) -> bool:
    """Return whether *url* names a file of another machine."""
    return urlsplit(url).scheme in {"http", "https"} or url.startswith("//")


def all_versions(page: Path) -> str:
    """Return the address of the list of versions, as *page* writes it."""
    return "../" * len(page.parts) + "index.html"


def list_versions(folder: Path) -> None:
    """Write the page that lists the versions that *folder* has, the newest release first."""
    names = [path.parent.name for path in folder.glob("*/index.html")]
    released = sorted((name for name in names if name != UNRELEASED), key=order, reverse=True)
    lines = [f'<li><a href="{escape(name)}/index.html">{escape(name)}</a></li>'
             for name in [*released, *(name for name in names if name == UNRELEASED)]]  # fmt: skip
    page = (SITE / "versions.html").read_text().replace("<!-- versions -->", "\n".join(lines))
    (folder / "index.html").write_text(page)


def order(version: str) -> list[tuple[int, str]]:
    """Return a key that sorts versions by their numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in version.split(".")]


if __name__ == "__main__":
    main()
