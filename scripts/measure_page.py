"""Measure the report's page: what it weighs, and how fast a browser shows 50 versions of it.

Prints a table of medians. `--screenshots PAGE FOLDER` makes the pictures of docs/report.md instead,
and `--screenshots PAGE FOLDER ADDRESS` also one of the live page that `lakescore serve` has there.
"""

import gzip
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from lakescore import reporting

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import documents

RUNS = 7
MOMENTS = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  return [paint, performance.getEntriesByName("lakescore:started")[0].startTime];
}"""
READY = "#comparison .content[data-ready=yes]"
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


def measure(browser: Browser) -> None:
    """Print weight and times of pages of 3 and 50 versions, opened anew several times."""
    table = Table(
        "versions", "kB", "kB, gzip", "first paint, ms", "list is there, ms", "all charts, ms"
    )
    with tempfile.TemporaryDirectory() as folder:
        for versions in (3, 50):
            text = reporting.page(documents.of_regression(versions))
            file = reporting.save(text, Path(folder) / f"{versions}.html")
            visits = [visit(browser, file) for _ in range(RUNS)]
            medians = [f"{statistics.median(times):.0f}" for times in zip(*visits, strict=True)]
            weight = len(text.encode())
            small = len(gzip.compress(text.encode()))
            table.add_row(str(versions), f"{weight / 1000:,.0f}", f"{small / 1000:,.0f}", *medians)
    Console().print(table)


def visit(browser: Browser, file: Path) -> tuple[float, ...]:
    """Return first paint, the list's start and the last chart, in milliseconds after the start."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector(READY, state="attached")
    drawn = page.evaluate("performance.now()")
    paint, started = page.evaluate(MOMENTS)
    context.close()
    return paint, started, drawn


def picture(browser: Browser, file: Path, folder: Path) -> None:
    """Write the page's top at two widths, light and dark."""
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=2 if size == "phone" else 1,
            )
            page = context.new_page()
            page.goto(file.as_uri())
            page.wait_for_selector(READY, state="attached")
            target = folder / f"report-{size}-{scheme}.png"
            clip = {"x": 0, "y": 0, "width": width, "height": height * 2}
            page.screenshot(path=target, full_page=True, clip=clip)  # type: ignore[arg-type]
            context.close()


def picture_live(browser: Browser, address: str, folder: Path) -> None:
    """Write the live page with a version's details open, where its tags are edited."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, color_scheme="light")
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(READY, state="attached")
    page.get_by_role("button", name="details of version").first.click()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_role("dialog").wait_for()
    page.screenshot(path=folder / "report-live.png")
    context.close()


def main() -> None:
    """Start the browser and do what was asked."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        match sys.argv[1:]:
            case []:
                measure(browser)
            case ["--screenshots", page, folder, *live]:
                picture(browser, Path(page).resolve(), Path(folder))
                for address in live:
                    picture_live(browser, address, Path(folder))
            case _:
                sys.exit("usage: measure_page.py [--screenshots PAGE FOLDER [ADDRESS]]")
        browser.close()


if __name__ == "__main__":
    main()
