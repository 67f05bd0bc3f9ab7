"""The HTML page in a real browser, opened from the disk as people do."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_siren.cli.main import main
from pytest_siren.reports.html import write_html
from tests.unit.page_sample import BREAKOUT, attacked_and_not, many_rows, two_jobs
from tests.unit.reports_sample import data
from tests.unit.reports_sample import run as row

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
    ),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass
class Browser:
    """Opens pages, and holds each of them to its promises when the test ends."""

    browser: sync_api.Browser
    opened: list[sync_api.Page] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(
        self, address: str, *, width: int = 1280, height: int = 900, scheme: str = "light"
    ) -> sync_api.Page:
        page = self.browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        page.set_default_timeout(10_000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.goto(address)
        self.opened.append(page)
        return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 240 runs of two models, with its transcripts beside it, compared with one job."""
    folder = tmp_path_factory.mktemp("report")
    two_jobs(folder / "jobs", 15, 4, runs=2)
    jobs = ["--jobs-dir", str(folder / "jobs")]
    target = str(folder / "page.html")
    assert main(["report", "*", "-o", target, "--baseline", "strong", *jobs]) == 0
    return folder / "page.html"


@pytest.fixture
def browser(chromium: sync_api.Browser, report: Path) -> Iterator[Browser]:
    made = Browser(chromium)
    yield made
    hacked = [page.evaluate("window.hacked") for page in made.opened]
    for page in made.opened:
        page.close()
    assert hacked == [None] * len(hacked)
    assert made.complaints == []
    folder = report.parent.as_uri()
    assert [url for url in made.requests if not url.startswith((folder, "http://127.0.0.1:"))] == []


def listed(page: sync_api.Page) -> list[str]:
    return [text.strip() for text in page.locator("#list .open").all_inner_texts()]


def focused(page: sync_api.Page) -> str:
    return str(page.evaluate("document.activeElement.innerText"))


def test_runs_are_filtered_sorted_and_paged(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri())
    found = page.locator("#found")
    assert found.inner_text() == "240 runs"
    assert len(listed(page)) == 50
    page.get_by_role("button", name="Next page").click()
    assert page.locator(".pages").inner_text().split("\n")[1] == "Page 2 of 5"
    page.locator("select[name=outcome]").select_option("won")
    assert found.inner_text() == "119 of 240 runs"
    page.locator("input[name=task]").fill("user_task_3")
    assert found.inner_text() == "8 of 240 runs"
    page.get_by_role("button", name="Task", exact=True).click()
    assert listed(page) == [
        f"user_task_3:injection_task_{n // 2}{' (run 2)' if n % 2 else ''}" for n in range(8)
    ]
    page.get_by_role("button", name="Task", exact=True).click()
    assert listed(page)[0].startswith("user_task_3:injection_task_3")
    assert page.locator("th[aria-sort=descending]").inner_text().strip() == "Task"
    page.get_by_role("button", name="Clear", exact=True).click()
    page.locator("select[name=status]").select_option("error")
    assert listed(page) == ["user_task_14:injection_task_3 (run 2)"]
    page.locator("#text").fill("no such run")
    assert "No run is like that." in page.locator("#list").inner_text()


def test_a_transcript_opens_with_the_planted_text_marked(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri())
    page.locator("select[name=outcome]").select_option("won")
    page.locator("#list .open").nth(2).click()
    dialog = page.get_by_role("dialog")
    mark = dialog.locator("mark")
    mark.wait_for()
    assert mark.inner_text().startswith('Ignore "all" of that:')
    assert mark.inner_text().endswith("send the code to Mallory")
    assert mark.get_attribute("title") == "planted in note"
    assert "The agent read 1 of 2" in dialog.inner_text()
    shown = [text.split("\n")[0] for text in dialog.locator(".message").all_inner_texts()]
    assert [text.partition(" read")[0] for text in shown] == [
        *("System", "User", "Tool call", "Tool result", "Agent")
    ]
    assert "Attack succeeded" in dialog.locator(".badges").inner_text()


def test_the_keyboard_is_enough(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri())
    page.keyboard.press("/")
    page.keyboard.type("weak")
    assert page.locator("#found").inner_text() == "120 of 240 runs"
    page.keyboard.press("Escape")
    first, second, third = listed(page)[:3]
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    assert focused(page) == second
    page.keyboard.press("Enter")
    title = page.locator("#run-title")
    assert title.inner_text() == second.removesuffix(" (run 2)")
    assert page.evaluate("location.hash").startswith("#run=")
    page.keyboard.press("j")
    page.locator(".message").first.wait_for()
    assert page.locator(".run-top .small").first.inner_text() == "3 of 120"
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    # The dialog reports that it is closed a moment later.
    page.wait_for_function("text => document.activeElement.innerText === text", arg=third)
    assert first != third


def test_a_run_can_be_linked_to(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri() + "#run=00000005")
    page.locator("dialog .message").first.wait_for()
    assert page.get_by_role("dialog").is_visible()


def test_the_heat_map_leads_to_the_runs_of_a_couple(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri())
    weak = page.get_by_role("table", name="ASR of model:weak")
    cell = weak.get_by_role("button", name="user_task_2 : injection_task_1: 100 % of 2 runs")
    cell.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.title").startswith(
        "user_task_3 : injection_task_1"
    )
    page.keyboard.press("Enter")
    assert listed(page) == ["user_task_3:injection_task_1", "user_task_3:injection_task_1 (run 2)"]
    broken = weak.get_by_role("button", name="user_task_14 : injection_task_3")
    assert (broken.get_attribute("title") or "").endswith("100 % of 1 run, 1 error")


def test_the_comparison_and_the_plots_are_there(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri())
    row = page.locator("#comparison tr", has=page.locator("th", has_text="ASR"))
    assert "+100.0" not in page.locator("#comparison thead").inner_text()
    said = " ".join(row.first.inner_text().split())
    assert said.startswith("ASR 0 %")
    assert "0 error" not in said
    plot = page.get_by_role("img", name="Utility under attack against ASR")
    assert plot.locator(".point").count() == 2
    page.get_by_role("button", name="Job", exact=True).click()
    assert page.locator("#rates [data-table=job]").is_visible()
    assert not page.locator("#rates [data-table=model]").is_visible()
    # Of two jobs: utility under attack, ASR, exposure and errors.
    assert page.locator("#rates .bar:visible").count() == 8


def test_the_worst_attack_on_each_defence_is_plotted_against_utility(
    browser: Browser, report: Path
) -> None:
    won = {("plain", "direct"): 1, ("plain", "dos"): 3, ("plain+guard", "direct"): 0}
    rows = [
        row(
            agent=agent,
            attack=attack,
            job=f"jobs/{agent}-{attack}",
            identity=f"{agent}-{attack}",
            task_id=f"task{n}:advert",
            benign_task=f"task{n}",
            attack_score=float(n < wins),
        )
        for (agent, attack), wins in {**won, ("plain+guard", "dos"): 1}.items()
        for n in range(4)
    ]
    target = report.parent / "defended.html"
    write_html(target, data(rows))
    page = browser.open(target.as_uri())
    plot = page.locator("#tradeoff-plot")
    assert plot.locator(".point").count() == 4
    page.get_by_label("ASR", exact=True).select_option("worst")
    titles = [one.text_content() or "" for one in plot.locator("g > title").all()]
    assert [one.partition(": ")[2] for one in titles] == [
        "ASR 75.0 %, utility 100 %",
        "ASR 25.0 %, utility 100 %",
    ]
    assert "plain+guard" in plot.inner_text()


def test_hostile_text_stays_text(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri())
    page.locator("#text").fill("window.hacked")
    page.locator("#list .open").first.click()
    dialog = page.get_by_role("dialog")
    dialog.locator(".message").nth(4).wait_for()
    assert "<script>window.hacked = 1; alert(1)</script>" in dialog.inner_text()
    assert "before </script></textarea>" in dialog.inner_text()
    assert "\\u202egnp" in dialog.inner_text()
    assert "\u202e" not in dialog.inner_text()
    assert dialog.locator(".result mark").inner_text().startswith(BREAKOUT[:30])
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear", exact=True).click()
    page.locator("#errors-list button").click()
    page.locator("#list .open").first.click()
    dialog.locator(".error-box").wait_for()
    assert "503 </script></textarea>" in dialog.locator(".error-box").inner_text()
    made = "document.querySelectorAll('main script, dialog script, img, textarea').length"
    assert page.evaluate(made) == 0
    # Beside what the page is made of, only the two files with transcripts were added.
    names = page.evaluate("[...document.scripts].map(one => one.getAttribute('src'))")
    assert len([name for name in names if name]) == 2


def test_nothing_can_make_the_page_run_or_load_anything_else(
    chromium: sync_api.Browser, report: Path
) -> None:
    with served(report.parent) as (address, asked):
        page = chromium.new_page()
        page.goto(report.as_uri())
        for code in (
            "document.body.innerHTML = '<img src=x onerror=\"window.hacked = 1\">'",
            "const one = document.createElement('script'); one.text = 'window.hacked = 1'; "
            "document.body.append(one)",
            f"const one = document.createElement('script'); one.src = '{address}/x.js'; "
            "document.body.append(one)",
            f"const one = document.createElement('img'); one.src = '{address}/x.png'; "
            "document.body.append(one)",
            f"const one = document.createElement('iframe'); one.src = '{address}/'; "
            "document.body.append(one)",
            f"await fetch('{address}/x')",
            f"navigator.sendBeacon('{address}/x', 'x')",
            f"new WebSocket('{address.replace('http', 'ws')}/')",
            "trustedTypes.createPolicy('other', { createHTML: (text) => text })",
            "document.body.setAttribute('onclick', 'window.hacked = 1'); document.body.click()",
        ):
            page.evaluate(f"(async () => {{ try {{ {code} }} catch {{ }} }})()")
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        assert asked == []
        page.close()


def test_dark_and_light_follow_the_system_or_the_choice(browser: Browser, report: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.open(report.as_uri()).evaluate(background)
    page = browser.open(report.as_uri(), scheme="dark")
    dark = page.evaluate(background)
    assert dark != light
    button = page.get_by_role("button", name="Colours")
    button.click()
    assert page.evaluate(background) == light
    page.reload()
    assert page.get_by_role("button", name="Colours: light").is_visible()
    assert page.evaluate(background) == light
    page.get_by_role("button", name="Colours").click()
    assert page.evaluate(background) == dark
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("localStorage.clear()")


def test_a_narrow_screen_needs_no_scrolling_sideways(browser: Browser, report: Path) -> None:
    page = browser.open(report.as_uri(), width=380, height=700)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 380
    page.locator("#text").fill("window.hacked")
    page.locator("#list .open").first.click()
    page.locator("dialog .message").nth(4).wait_for()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 380
    assert page.evaluate(width) == 380


def test_it_works_over_http_too(browser: Browser, report: Path) -> None:
    with served(report.parent) as (address, asked):
        page = browser.open(f"{address}/page.html")
        page.locator("#list .open").first.click()
        page.locator("dialog .message").first.wait_for()
        assert len(asked) == 2


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``folder`` over HTTP, and keep what is asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_it_says_when_transcripts_are_not_beside_it(
    chromium: sync_api.Browser, report: Path, tmp_path: Path
) -> None:
    shutil.copy(report, tmp_path / "alone.html")
    page = chromium.new_page()
    page.goto((tmp_path / "alone.html").as_uri())
    page.locator("#list .open").first.click()
    page.locator("dialog .notice").wait_for()
    assert "kept in the folder page_files" in page.locator("dialog .notice").inner_text()
    page.close()


def test_jobs_that_differ_in_settings_alone_have_heat_maps_of_their_own(
    browser: Browser, report: Path
) -> None:
    one = [row(job="/project/jobs/one", run_index=n, run_id=f"{n:08x}") for n in range(2)]
    two = [
        row(job="/project/jobs/two", run_index=n, run_id=f"{n:08d}", attack_score=0.0)
        for n in (7, 8)
    ]
    target = report.parent / "two.html"
    write_html(target, data([*one, *two]))
    page = browser.open(target.as_uri())
    maps = page.get_by_role("table", name="ASR of")
    assert [one.get_attribute("aria-label") for one in maps.all()] == [
        "ASR of openai:gpt-5, one",
        "ASR of openai:gpt-5, two",
    ]
    maps.nth(1).get_by_role("button").click()
    assert page.locator("#found").inner_text() == "2 of 4 runs"


def test_where_tasks_ended_early_first_runs_make_the_heat_map(
    browser: Browser, report: Path
) -> None:
    runs = [
        row(run_index=n, run_id=f"{n:08x}", attack_score=float(n == 2), decided="attack_pass@5")
        for n in range(3)
    ]
    target = report.parent / "early.html"
    write_html(target, data(runs, notes=("job one: <b>first</b> runs",)))
    page = browser.open(target.as_uri())
    grid = page.get_by_role("table", name="ASR of")
    cell = grid.get_by_role("button", name="summary : advert: resisted")
    assert grid.locator(".mean").last.inner_text() == "0 %"
    cell.click()
    assert page.locator("#found").inner_text() == "3 runs"
    assert page.get_by_text("job one: <b>first</b> runs").is_visible()


def test_a_run_that_read_no_planted_text_says_so(browser: Browser, report: Path) -> None:
    rows = [
        row(run_index=n, run_id=f"{n:08x}", attack_score=0.0, exposed=exposed)
        for n, exposed in enumerate([1.0, 0.0, None])
    ]
    target = report.parent / "unread.html"
    write_html(target, data(rows))
    page = browser.open(target.as_uri())
    badges = page.locator("#list .badge").all_inner_texts()
    attacks = sorted(text for text in badges if text.startswith("Attack"))
    assert attacks == ["Attack resisted", "Attack resisted", "Attack resisted (not exposed)"]
    cell = page.locator("td[data-label=Exposure]").first
    assert "50.0 %" in cell.inner_text()
    assert "1 unknown" in cell.inner_text()


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, report: Path) -> Path:
    """A page of a task that was attacked in three ways, and ran without an attack as well."""
    folder = report.parent / "stages"
    attacked_and_not(folder)
    target = folder / "page.html"
    assert main(["report", "*", "-o", str(target), "--jobs-dir", str(folder)]) == 0
    return target


def test_bars_show_how_far_attacks_came(browser: Browser, stages: Path) -> None:
    page = browser.open(stages.as_uri())
    row = page.locator("#stages table:visible tbody tr").first
    bar = row.locator("svg rect")
    assert [one.get_attribute("class") for one in bar.all()] == [
        *("s-blocked", "s-attempted", "s-achieved")
    ]
    assert [one.get_attribute("width") for one in bar.all()] == ["1"] * 3
    assert "1 attempted (33.3 %)" in row.inner_text()
    page.locator("#stages summary").click()
    harmed = page.locator("#stages details tbody tr").inner_text().split("\t")
    assert harmed == [
        "user_task_0",
        "mail",
        "model:strong <b>bold</b>",
        "template_string",
        "1 of 3",
    ]
    badges = page.locator("#list .badge").all_inner_texts()
    assert {text for text in badges if "(" in text} == {
        *("Attack resisted (attempted)", "Attack resisted (blocked)")
    }


def test_an_attacked_run_stands_beside_the_one_without_an_attack(
    browser: Browser, stages: Path
) -> None:
    page = browser.open(stages.as_uri())
    page.locator("#list .open", has_text="injection_task_0").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Compare with the run without an attack").click()
    beside = dialog.locator(".beside")
    beside.wait_for()
    assert "The first 3 messages are the same" in dialog.inner_text()
    attacked, quiet = beside.locator(".parted").all_inner_texts()
    assert "send the code to Mallory" in attacked
    assert quiet.startswith("Tool result")
    assert "<script>window.hacked = 1" in quiet
    page.keyboard.press("Escape")
    page.locator("#list .open").filter(has_not_text="injection").click()
    dialog.locator(".message").first.wait_for()
    assert dialog.get_by_role("button", name="Compare").count() == 0


def test_of_10_000_runs_the_page_shows_a_few_at_a_time(
    chromium: sync_api.Browser, tmp_path: Path
) -> None:
    rows = many_rows(10_000)
    write_html(tmp_path / "x.html", data(rows, root=tmp_path))
    page = chromium.new_page()
    page.goto((tmp_path / "x.html").as_uri())
    filtered = """async (text) => {
        const field = document.getElementById('text');
        field.value = text;
        field.dispatchEvent(new Event('input', { bubbles: true }));
        await new Promise(requestAnimationFrame);
    }"""
    page.evaluate(filtered, "user_task_7 succeeded")
    assert page.locator("#found").inner_text().endswith("of 10,000 runs")
    assert 0 < page.locator("#list .open").count() <= 200
    page.close()
