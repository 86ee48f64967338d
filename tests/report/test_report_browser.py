"""The report in a real browser: no error, no request, sorting, sound, and no sideways scrolling on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
import soundfile

from calib.diagnose.faults.evidence import Finding

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def visit(browser, tmp_path: Path):
    """Open a page; afterwards nothing may have been said on the console or asked of the network."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(html: str, *, width: int = 1440, scheme: str = "light", name: str = "page.html"):
        (tmp_path / name).write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / name).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("kind", ["fixable", "collapsed", "invalid"])
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark")])
def test_nothing_runs_off_the_side(visit, kind: str, width: int, scheme: str) -> None:
    page = visit(pages.report(kind).html, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(245, 246, 248)" if scheme == "light" else "rgb(16, 19, 23)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_findings_fit_a_phone_and_take_the_colour_of_their_severity(visit, scheme: str) -> None:
    d = pages.diagnosis("fixable")
    d.faults = [
        Finding("clipped", ("clipped",), 0.6, evidence=("x" * 500,)),
        Finding("fmax", ("fmax", "mel-scale", "sample-rate"), 0.99, "fmax 11025 Hz", ("r 0.97",) * 3),
    ]
    page = visit(
        pages.build_report(pages.report_input("fixable", diagnosis=d)).html, width=360, scheme=scheme, name="f.html"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    colours = page.evaluate(
        "Array.from(document.querySelectorAll('.finding .chip span'), e => getComputedStyle(e).backgroundColor)"
    )
    assert colours == (
        ["rgb(179, 38, 30)", "rgb(125, 82, 0)"] if scheme == "light" else ["rgb(255, 143, 134)", "rgb(240, 185, 77)"]
    )
    button = page.locator(".finding button[aria-label='copy calib frontends diff A B']")
    button.click()
    # The clipboard answers when it likes; a button that stays "copy" runs into the time limit here.
    page.wait_for_function(
        "e => ['copied', 'selected'].includes(e.textContent)", arg=button.element_handle(), timeout=10_000
    )


def test_hostile_text_neither_runs_nor_breaks_the_phone_layout(visit) -> None:
    d = pages.diagnosis("fixable", [pages.HOSTILE, "x" * 10_000, *(f"u{i}" for i in range(4))])
    shown = [pages.example(d, pages.HOSTILE, "y" * 10_000, None)]
    data = pages.report_input("fixable", diagnosis=d, examples=shown, title=pages.HOSTILE, unit="u" * 300)
    page = visit(pages.build_report(data).html, width=360)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_heading_sorts_both_ways(visit) -> None:
    page = visit(pages.report("fixable").html)
    values = "Array.from(document.querySelectorAll('table.sortable tbody tr'), r => Number(r.cells[5].dataset.v))"
    button = page.locator("table.sortable thead button", has_text="Frames")
    button.click()
    up = page.evaluate(values)
    assert up == sorted(up)
    assert len(set(up)) > 1
    button.click()
    assert page.evaluate(values) == up[::-1]
    assert page.locator("th[aria-sort=descending]").count() == 1


def test_sounds_load_and_hand_over(visit) -> None:
    page = visit(pages.report("fixable").html)
    page.wait_for_function("Array.from(document.querySelectorAll('audio')).every(a => a.readyState >= 1)")
    durations = page.evaluate("Array.from(document.querySelectorAll('audio'), a => a.duration)")
    assert durations == pytest.approx([1.0] * 4, abs=0.01)
    page.evaluate(
        "(async () => { const [a, b] = document.querySelectorAll('audio'); a.currentTime = .4; await a.play(); await b.play(); })()"
    )
    page.wait_for_function(
        "(() => { const [a, b] = document.querySelectorAll('audio'); return a.paused && b.currentTime >= .4; })()"
    )


def test_commands_and_parameters_have_copy_buttons(visit) -> None:
    page = visit(pages.report("fixable").html)
    sources = page.locator("[data-copy]").count()
    assert sources >= 3
    assert page.locator("button[aria-label^=copy]").count() == sources


def test_print_is_light_and_keeps_the_headings(visit) -> None:
    page = visit(pages.report("fixable").html, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert page.locator("table.sortable thead button").first.is_visible()
    assert not page.locator("audio").first.is_visible()


def test_the_page_can_be_read_without_script(browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(pages.report("collapsed").html, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("h1").inner_text().startswith("NOT FIXABLE")
    assert page.locator("table.sortable tbody tr").count() == 6
    assert not page.locator(".js").first.is_visible()
    context.close()


def test_index_plays_files_beside_it(visit, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "t.wav", *pages.sound())
    page = visit(pages.index({"target": "t.wav"}), width=360)
    page.wait_for_function("document.querySelector('audio').readyState >= 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
