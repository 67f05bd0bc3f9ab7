"""Makes the pictures of docs/how-to/report.md.

    python docs/screens_report.py RUNS

writes docs/screens/report-*.png. RUNS is a folder with AgentDojo's published runs of
gpt-4o-2024-05-13 and command-r-plus (PIPELINE/SUITE/TASK/ATTACK/INJECTION.json), which are scored
again as docs/how-to/replay.md says. Needs Chromium, the package `playwright`, and a typeface that
the page knows, such as Inter; takes about a minute.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SCREENS = ROOT / "docs" / "screens"
MODELS = ("gpt-4o-2024-05-13", "command-r-plus")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def main() -> None:
    """Replay, report, and take the pictures."""
    runs = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        replayed(Path(folder), runs)
        page, compared = reported(Path(folder))
        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
            pictures(browser, page.as_uri())
            comparison(browser, compared.as_uri())
            browser.close()


def replayed(folder: Path, runs: Path) -> None:
    """Score the published runs again."""
    for suite in ("banking", "slack", "travel", "workspace"):
        name = f"eval_agentdojo_{suite}.yaml"
        (folder / "evals").mkdir(exist_ok=True)
        shutil.copy(ROOT / "evals" / name, folder / "evals" / name)
    models = ",".join(f"replay:{runs / model}" for model in MODELS)
    options = ("--set", "dataset.config.version=v1", "--model", models, "--attack", "recorded")
    done = run(folder, "pytest", "evals", "-q", "--benign", *options)
    if done not in (0, 1):
        sys.exit(f"the runs could not be replayed: pytest exits with {done}")


def reported(folder: Path) -> tuple[Path, Path]:
    """Return a page of all runs, and one that compares the two models."""
    title = ("--title", "AgentDojo v1: gpt-4o and command-r-plus")
    both = run(folder, "pytest_siren", "report", "*", "-o", "all.html", *title)
    baseline = ("--baseline", f"*{MODELS[1]}*")
    one = run(folder, "pytest_siren", "report", f"*{MODELS[0]}*", "-o", "one.html", *baseline)
    if both or one:
        sys.exit("the reports could not be written")
    return folder / "all.html", folder / "one.html"


def run(folder: Path, module: str, *args: str) -> int:
    """Return the exit code of a module that is run in ``folder``."""
    return subprocess.run([sys.executable, "-m", module, *args], cwd=folder, check=False).returncode


def pictures(browser: Browser, address: str) -> None:
    """Take them all."""
    page = opened(browser, address, 1240, 1360)
    workspace(page)
    taken(page, "report-light")
    page.locator("[data-grouping=dataset]").click()
    show(page, "tradeoff")
    page.set_viewport_size({"width": 1240, "height": 740})
    taken(page, "report-tradeoff")
    page.set_viewport_size({"width": 1240, "height": 900})
    page.locator("#text").fill("gpt-4o user_task_1:")
    page.locator("select[name=outcome]").select_option("won")
    show(page, "runs")
    page.locator("#list .open").first.click()
    page.locator("dialog mark").first.wait_for()
    page.evaluate("document.querySelector('dialog mark').scrollIntoView({ block: 'center' })")
    taken(page, "report-transcript")
    page.close()
    page = opened(browser, address, 1240, 1360, "dark")
    workspace(page)
    taken(page, "report-dark")
    page.close()
    page = opened(browser, address, 380, 1100)
    taken(page, "report-narrow")
    page.close()


def comparison(browser: Browser, address: str) -> None:
    """Take the picture of the comparison."""
    page = opened(browser, address, 1240, 900)
    show(page, "comparison")
    taken(page, "report-comparison")
    page.close()


def opened(browser: Browser, address: str, width: int, height: int, scheme: str = "light") -> Page:
    """Return the page in a window of that size."""
    viewport = {"width": width, "height": height}
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    page.goto(address)
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    return page


def workspace(page: Page) -> None:
    """Show the largest heat map at the bottom of the window."""
    page.locator("#heat-controls select").first.select_option("agentdojo-workspace")


def show(page: Page, section: str) -> None:
    """Scroll to a section."""
    page.evaluate(f"document.getElementById('{section}').scrollIntoView()")


def taken(page: Page, name: str) -> None:
    """Write a picture."""
    page.screenshot(path=SCREENS / f"{name}.png")


if __name__ == "__main__":
    main()
