"""The comparison in a real browser: no request, no error, nothing off the side, no fault of accessibility."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
import twins as made
from PIL import Image

from calib.report.compare_page import build_comparison
from calib.report.runs import Run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def page_html() -> str:
    hard = made.base()
    twins = [made.healthy(hard * (1 - 0.05 * k)) for k in range(6)]
    twins[2] = made.twin("collapsed")
    whole = [
        Run.of(twin, f"checkpoint-{1000 * k}" + ("x" * 300 if k == 4 else ""), f"c{k}/report.html")
        for k, twin in enumerate(twins)
    ]
    whole[2] = Run.of(made.healthy(hard * 2, headline=pages.HOSTILE, state="collapsed", writes=False), pages.HOSTILE)
    return build_comparison(whole, pages.PERSIAN).html


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme", "scripted"), [(360, "light", True), (1440, "dark", False)])
def test_it_opens_offline_and_fits(
    browser: Any, page_html: str, tmp_path: Path, width: int, scheme: str, scripted: bool
) -> None:
    (tmp_path / "c.html").write_text(page_html, encoding="utf-8")
    said: list[str] = []
    asked: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripted
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "c.html").as_uri())
    assert page.locator("table.runs tbody tr").count() == 6
    assert page.locator("svg.chart").count() == 4
    assert page.locator("a[href='c0/report.html']").is_visible()
    if scripted:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, page_html: str, tmp_path: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # axe is a script, which the page's own policy forbids: here it may run.
    (tmp_path / "c.html").write_text(page_html, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto((tmp_path / "c.html").as_uri())
    found = axe.Axe().run(page)
    context.close()
    assert found.violations_count == 0, found.generate_report()


@pytest.fixture(scope="module")
def pictures() -> Any:
    spec = importlib.util.spec_from_file_location("calib_pictures", ROOT / "docs/pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    __import__("sys").modules["calib_pictures"] = module
    spec.loader.exec_module(module)
    return module


def _png(array: np.ndarray, path: Path) -> bytes:
    Image.fromarray(array).save(path)
    return path.read_bytes()


def test_pictures_get_fewer_colours_until_they_fit_or_are_refused(
    pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pictures.MOST_BYTES == 200_000
    monkeypatch.setattr(pictures, "MOST_BYTES", 20_000)
    smooth = np.tile(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], (200, 1, 3))
    assert len(pictures.smaller(_png(smooth, tmp_path / "a.png"))) <= 20_000
    noise = np.random.default_rng(0).integers(0, 256, (200, 320, 3)).astype(np.uint8)
    with pytest.raises(RuntimeError, match="bytes with 32 colours"):
        pictures.smaller(_png(noise, tmp_path / "b.png"))


def test_every_picture_is_of_a_page_that_its_commands_make(pictures: Any) -> None:
    assert len({picture.name for picture in pictures.PICTURES}) == len(pictures.PICTURES)
    made_pages = {
        "founding/report.html",
        "comparison/comparison.html",
        *(f"demo/{name}/report.html" for name in ("units", "collapsed", "healthy")),
    }
    assert {picture.page for picture in pictures.PICTURES} <= made_pages
