"""The pictures of the README: ``python docs/pictures.py`` (or ``make pictures``) makes them anew from the reports themselves.

Needs Chromium and playwright, as the browser tests do. The founding pair is not in the repository: where it is absent
its picture is left as it is, and that is said. Pictures are PNG with a palette, under 200 KB each.
"""  # noqa: INP001 - a script

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from calib.cli import _run
from calib.console import terminal
from calib.data.files import atomic_writer

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 200_000
_COLOURS = (256, 128, 64, 32)
_WIDTH = 1280


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        name: of the PNG in ``docs/``.
        page: HTML, relative to the folder of the reports.
        height: of the window, in px.
        scheme: ``light`` or ``dark``.
        at: CSS selector of what is to be at the top, or "" for the top of the page.
    """

    name: str
    page: str
    height: int = 860
    scheme: str = "light"
    at: str = ""


PICTURES = (
    Picture("report-founding.png", "founding/report.html"),
    Picture("report-units.png", "demo/units/report.html"),
    # The median utterance of the demo is Persian: its text stands from right to left.
    Picture("report-utterances.png", "demo/units/report.html", 900, at=".example:has([dir=rtl])"),
    Picture("report-healthy-dark.png", "demo/healthy/report.html", scheme="dark"),
    Picture("report-comparison.png", "comparison/comparison.html", 1060),
)


def make_reports(folder: Path, founding: Path | None) -> None:
    """The reports that are photographed: the demo's three, their comparison, and the founding pair's.

    Raises:
        RuntimeError: a command failed.
    """
    cases = [str(folder / "demo" / name) for name in ("collapsed", "units", "healthy")]
    commands = [
        ["demo", "-o", str(folder / "demo"), "--quiet"],
        ["report", *cases, "-o", str(folder / "comparison"), "--title", "the demo's three cases"],
    ]
    if founding is not None:
        commands.append(
            ["report", str(founding), "--title", "the founding pair", "-o", str(folder / "founding"), *FOUNDING]
        )
    for command in commands:
        code = _run(command)
        if code:
            raise RuntimeError(f"calib {' '.join(command)} ended with {code}")


FOUNDING = ("--frontend", "myxtts_utils_audio", "--layout", "TM")


def photograph(folder: Path, pictures: Sequence[Picture], out: Path) -> list[Path]:
    """Each picture whose page is there.

    Raises:
        RuntimeError: there is no Chromium, or a picture does not fit 200 KB.
    """
    from playwright.sync_api import sync_playwright

    browser_path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)  # fmt: skip
    if browser_path is None:
        raise RuntimeError("no Chromium on this machine")
    written = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        for picture in pictures:
            page = folder / picture.page
            if not page.is_file():
                terminal.warning(f"skipped: {picture.name}: {picture.page} was not made")
                continue
            data = _shot(browser, page, picture)
            with atomic_writer(out / picture.name, force=True) as file:
                file.write(data)
            written.append(out / picture.name)
            terminal.result(f"{out / picture.name} ({len(data) / 1000:.0f} KB)")
        browser.close()
    return written


def _shot(browser: Any, page: Path, picture: Picture) -> bytes:
    window = browser.new_page(viewport={"width": _WIDTH, "height": picture.height}, color_scheme=picture.scheme)
    window.goto(page.resolve().as_uri())
    if picture.at:
        window.locator(picture.at).first.evaluate(
            "e => window.scrollTo(0, e.getBoundingClientRect().top + scrollY - 52)"
        )
    window.wait_for_timeout(300)
    data = window.screenshot()
    window.close()
    return smaller(data)


def smaller(png: bytes) -> bytes:
    """The same picture with as many colours as fit 200 KB.

    Raises:
        RuntimeError: even the fewest do not.
    """
    with Image.open(io.BytesIO(png)) as picture:
        whole = picture.convert("RGB")
    for colours in _COLOURS:
        out = io.BytesIO()
        whole.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() <= MOST_BYTES:
            return out.getvalue()
    raise RuntimeError(f"a picture of {whole.size} px takes {out.tell():,} bytes with {_COLOURS[-1]} colours")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make reports and pictures."""
    parser = argparse.ArgumentParser(description="Make the pictures of the README anew.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the pictures")
    parser.add_argument(
        "--founding",
        type=Path,
        default=ROOT.parent / "shared/data/myxtts_checkpoint_10897",
        help="the founding pair, where it is",
    )
    parser.add_argument("--reports", type=Path, help="use (or keep) the reports in this folder")
    options = parser.parse_args(arguments)
    founding = options.founding if options.founding.is_dir() else None
    if founding is None:
        terminal.warning(f"the founding pair is not at {options.founding}: its picture stays as it is")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.reports or Path(scratch)
        if not (folder / "demo/index.html").is_file():
            make_reports(folder, founding)
        photograph(folder, PICTURES, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
