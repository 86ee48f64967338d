"""The report page: self-contained, harmless, the same bytes each time, and honest about what is not there."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html as html_module
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pages
import pytest

import calib.report
from calib.diagnose.analysis import Diagnosis
from calib.diagnose.faults.evidence import Finding
from calib.diagnose.faults.library import FAULTS
from calib.diagnose.legs.result import Leg, Legs, skipped_leg
from calib.diagnose.scores import TITLES
from calib.errors import UsageError
from calib.report import IndexEntry, Setting, build_index, build_report
from calib.report.canvas import Chart
from calib.report.figures import painters
from calib.report.fitfigures import residuals
from calib.report.headline import counts, threshold
from calib.report.margins import Margins, margins
from calib.report.media import common_scale, mel_image, signed_scale, sounds_within
from calib.report.smoothfigures import after_within, bin_errors
from calib.report.wording import REFERENCES, clipped, commands, direction, finite, number, visible

FOLDER = Path(calib.report.__file__).parent
KINDS = ("fixable", "healthy", "collapsed", "invalid", "insufficient")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, visible text, and whether the tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.broken: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the charts, which take a second a report and are looked at elsewhere."""
    for kind in KINDS:  # kept between tests, so made with theirs
        pages.report(kind)

    def charts(d: Diagnosis, unit: str) -> dict[str, Chart]:
        del d, unit
        return {key: Chart(key, title, "", "not drawn in this test", skipped=True) for key, title, _ in painters()}

    monkeypatch.setattr("calib.report.figures.charts", charts)


@pytest.fixture(params=KINDS)
def any_html(request: pytest.FixtureRequest) -> str:
    return pages.report(request.param).html


def test_policy_forbids_the_network_and_hashes_style_and_script(any_html: str) -> None:
    page = Page(any_html)
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", any_html, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy


def test_no_external_address_and_no_inline_style_or_handler(any_html: str) -> None:
    assert "http://" not in any_html
    assert "https://" not in any_html
    page = Page(any_html)
    assert page.broken == []
    assert page.open == []
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes[name])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "ids are unique over all figures"
    for used in re.findall(r"url\(#([^)]+)\)", any_html):
        assert used in ids


def test_same_input_gives_the_same_bytes() -> None:
    first, second = (build_report(pages.report_input("fixable")) for _ in range(2))
    assert first.html == second.html
    assert first.twin_text() == second.twin_text()


def test_the_page_does_not_depend_on_the_users_matplotlib_settings() -> None:
    import matplotlib as mpl

    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        assert build_report(pages.report_input("fixable")).html == pages.report("fixable").html


def test_sizes() -> None:
    for file in ("style.css", "script.js", "tables.css", "tables.js"):
        size = (FOLDER / file).stat().st_size
        assert size <= 8192, (file, size)
    html = pages.report("fixable").html
    silent = re.sub(r"data:audio/flac;base64,[^\"]+", "", html)
    assert len(silent.encode()) <= 1_500_000


@pytest.mark.usefixtures("undrawn")
def test_twelve_long_utterances_stay_below_one_and_a_half_megabytes() -> None:
    data = pages.report_input("fixable")
    mel = np.tile(pages.mels(1, frames=150, n_mels=80)[0], (20, 1)) + np.random.default_rng(0).standard_normal(
        (3000, 80)
    ).astype(np.float32)
    shown = dataclasses.replace(data.examples[0], target=mel, prediction=mel, calibrated=mel, audio={})
    report = build_report(dataclasses.replace(data, examples=[shown] * 14))
    assert len(report.html.encode()) <= 1_500_000
    assert report.html.count('<article class="example"') == 12
    assert "2 more were given" in report.html


def test_a_collapsed_model_is_told_that_nothing_was_repaired_before_anything_else() -> None:
    text = Page(pages.report("collapsed").html).text
    start = text[: text.index("Findings")]
    assert "NOT FIXABLE BY CALIBRATION" in start
    assert "Nothing was repaired. No parameter file was written." in start
    assert "constant: per-bin mean" in start
    assert "A constant, which ignores the model's output, does as well or better" in start


def test_the_founding_pair_shows_its_constant_beside_the_fit(founding_pair) -> None:
    arrays = [np.load(founding_pair / f"{name}.npy").astype(np.float32) for name in ("pred", "target")]
    d = pages.analyze(pages.Pairs([(arrays[0], arrays[1])]))
    text = Page(build_report(pages.ReportInput("founding", d)).html).text
    start = text[: text.index("Findings")]
    for figure in ("5.237", "1.808", "1.528", "Nothing was repaired"):
        assert figure in start


@pytest.mark.usefixtures("undrawn")
def test_a_repair_and_a_healthy_model_say_what_was_written() -> None:
    assert "A parameter file was written." in pages.report("fixable").html
    assert "The exact identity was written: nothing needed repair." in pages.report("healthy").html
    assert (
        "No parameter file was written by this report."
        in build_report(pages.report_input("fixable", written=None)).html
    )


@pytest.mark.usefixtures("undrawn")
def test_a_file_written_by_force_is_called_that() -> None:
    html = build_report(pages.report_input("collapsed", written={"scale_factor": 0.1, "offset": 0.0})).html
    assert "written by force, against this verdict" in html


@pytest.mark.parametrize("kind", ["invalid", "insufficient"])
def test_what_could_not_be_computed_is_skipped_with_the_reason(kind: str) -> None:
    report = pages.report(kind)
    page = Page(report.html)
    for title in (
        "Before and after",
        "Distributions",
        "Prediction against target",
        "Correlation by lag",
        "All utterances",
        "Utterances in full",
    ):
        assert title in page.text
    assert report.html.count("skipped:") > 10
    assert not page.all("rect")
    reason = visible(next(iter(report.twin["diagnosis"]["skipped"].values())))
    assert page.text.count(reason) > 5


def test_a_diagnosis_with_holes_in_it_still_makes_a_page() -> None:
    d = dataclasses.replace(
        pages.diagnosis("fixable"),
        density={},
        probe=None,
        null=None,
        per_bin={},
        utterances=[],
        skipped={"per_bin": "too short"},
    )
    report = build_report(pages.report_input("fixable", diagnosis=d))
    assert report.html.count("too short") >= 5


def test_hostile_text_is_shown_as_text() -> None:
    names = [pages.HOSTILE, "x" * 10_000, *(f"u{i}" for i in range(4))]
    d = pages.diagnosis("fixable", names)
    d.notes.append(pages.HOSTILE * 100)
    d.skipped[pages.HOSTILE] = pages.HOSTILE
    shown = [
        dataclasses.replace(
            pages.example(d, pages.HOSTILE, pages.HOSTILE * 200, pages.HOSTILE),
            role=pages.HOSTILE,
            notes=(pages.HOSTILE,),
        )
    ]
    shown[0].audio[pages.HOSTILE] = pages.sound(0.1)
    report = build_report(
        pages.report_input(
            "fixable",
            diagnosis=d,
            examples=shown,
            title=pages.HOSTILE,
            unit=pages.HOSTILE + "$\\frac$",
            provenance={pages.HOSTILE: pages.HOSTILE},
        )
    )
    page = Page(report.html)
    assert page.broken == []
    assert page.open == []
    assert len([tag for tag in page.all("script") if "type" not in tag]) == 1
    assert not [tag for tag in page.all("img") if not (tag["src"] or "").startswith("data:")]
    assert "49" not in re.findall(r"\{\{.*?\}\}", page.text)
    assert "</script><script>alert(1)" in page.text.replace("> <", "><")
    assert not set("\u202e\u2066\x00\x1b") & set(report.html)
    assert "x" * 200 not in report.html
    assert "10,000 characters" in report.html
    report.html.encode("utf-8")
    report.twin_text().encode("utf-8")


@pytest.mark.usefixtures("undrawn")
def test_persian_runs_right_to_left_and_keeps_its_joiners() -> None:
    d = pages.diagnosis("fixable")
    html = build_report(
        pages.report_input("fixable", examples=[pages.example(d, text=pages.PERSIAN, language="fa")])
    ).html
    assert f'<blockquote dir="rtl" lang="fa"><bdi>{pages.PERSIAN}</bdi>' in html
    assert "\u200c" in html


@pytest.mark.parametrize(
    ("language", "way"),
    [("fa", "rtl"), ("ar-EG", "rtl"), ("pa-Arab", "rtl"), ("de", "ltr"), (None, "auto"), ('"><b', "auto")],
)
def test_direction_follows_the_language(language: str | None, way: str) -> None:
    assert direction(language) == way


def test_the_twin_is_strict_json_without_arrays_of_sound(any_html: str) -> None:
    del any_html
    for kind in ("fixable", "collapsed", "invalid"):
        report = pages.report(kind)
        twin = json.loads(report.twin_text(), parse_constant=lambda name: pytest.fail(f"{name} in the twin"))
        assert twin["schema"] == "calib/report/1"
        assert twin["diagnosis"]["verdict"]["state"] == kind
        assert len(report.twin_text()) < 1_000_000
    assert pages.report("fixable").twin["examples"][0]["name"] == "utt-000"


@pytest.mark.usefixtures("undrawn")
def test_numbers_that_are_not_finite_become_null_and_words() -> None:
    d = pages.diagnosis("fixable")
    d.summary["r"] = float("nan")
    check = dataclasses.replace(d.verdict.checks[0], value=float("inf"))
    d = dataclasses.replace(d, verdict=dataclasses.replace(d.verdict, checks=(check,)))
    report = build_report(pages.report_input("fixable", diagnosis=d))
    assert report.twin["diagnosis"]["summary"]["r"] is None
    assert "not finite" in report.html
    assert finite({"a": [np.float32("inf"), np.int64(3), (1.5,)]}) == {"a": [None, 3, [1.5]]}


def with_findings(*findings: Finding, kind: str = "fixable", **skipped: str) -> calib.report.Report:
    d = pages.diagnosis(kind)
    d.faults = list(findings)
    d.skipped |= {key.replace("_", " "): value for key, value in skipped.items()}
    return build_report(pages.report_input(kind, diagnosis=d))


SHIFT = Finding("shift", ("shift", "copying"), 0.97, "+3 frames", ("the correlation peaks +3.0 frames late",))
CLIPPED = Finding("clipped", ("clipped",), 0.61)


ORDER = (
    "Findings",
    "Before and after, against identity and the constants",
    "Target, prediction, vocoder",
    "Distributions, and by mel bin",
    "The fit, its interval and its residuals",
    "Over-smoothing",
    "Taylor diagram",
    "Utterances in full",
    "All utterances",
    "Parameters",
    "Provenance",
)


def section(text: str, title: str) -> str:
    """Text of the page from a heading to the next section of the fixed order."""
    headings = [f" {name} " for name in ORDER]
    start = text.index(f" {title} ", text.index("Provenance"))  # after the links to the sections
    return text[start : text.index(headings[ORDER.index(title) + 1], start)]


@pytest.mark.usefixtures("undrawn")
def test_findings_stand_below_the_verdict_with_everything_a_person_needs() -> None:
    report = with_findings(SHIFT)
    text = Page(report.html).text
    entry = FAULTS["shift"]
    found = section(text, "Findings")
    for words in (
        f"The prediction is {entry.title}: +3 frames",
        "confidence 97 %",
        "the correlation peaks +3.0 frames late",
        entry.cause,
        entry.next_step,
        FAULTS["copying"].title,
        "This evidence cannot tell which.",
    ):
        assert words in found, words
    assert text.index("FIXABLE BY CALIBRATION") < text.index("Findings")
    assert report.twin["diagnosis"]["faults"][0]["fault"] == "shift"


@pytest.mark.usefixtures("undrawn")
def test_the_worst_finding_comes_first_with_its_severity() -> None:
    html = with_findings(CLIPPED, SHIFT).html
    assert re.findall(r'<article class="finding (\w+)">', html) == ["fail", "warn", "warn"]  # with the verdict's own
    found = section(Page(html).text, "Findings")
    assert found.index(FAULTS["shift"].title) < found.index(FAULTS["clipped"].title)


@pytest.mark.usefixtures("undrawn")
def test_the_command_of_a_finding_can_be_copied() -> None:
    html = with_findings(Finding("log-base", ("log-base",), 0.9)).html
    assert f"<code data-copy>{FAULTS['log-base'].command}</code>" in html


@pytest.mark.usefixtures("undrawn")
def test_a_findings_step_stands_in_the_one_list_and_beside_the_finding_and_no_further_time() -> None:
    text = Page(with_findings(SHIFT).html).text
    assert text.count(FAULTS["shift"].next_step) == 2
    assert "Do next" in section(Page(pages.report("insufficient").html).text, "Findings")


@pytest.mark.usefixtures("undrawn")
def test_no_finding_and_no_test_are_two_things() -> None:
    assert "No fault of the library shows" in Page(with_findings().html).text
    found = section(Page(pages.report("insufficient").html).text, "Findings")
    assert "skipped:" in found
    assert "No fault of the library shows" not in found


@pytest.mark.usefixtures("undrawn")
def test_a_set_that_the_audio_would_shrink_says_so() -> None:
    why = "named only as a set without audio"
    d = pages.diagnosis("fixable")
    d.faults = [Finding("fmax", ("fmax", "fmin"), 0.9)]
    d.skipped["which of fmax, fmin"] = why
    assert f"cannot tell which: {why}." in Page(build_report(pages.report_input("fixable", diagnosis=d)).html).text


@pytest.mark.usefixtures("undrawn")
def test_a_healthy_level_with_a_broken_sound_is_no_pass() -> None:
    html = with_findings(SHIFT, kind="healthy").html
    assert '<section class="verdict fail"' in html
    assert "level and scale need no repair. The findings below do." in html
    assert "nothing needed repair" not in html


@pytest.mark.usefixtures("undrawn")
def test_hostile_text_in_a_finding_is_shown_as_text() -> None:
    html = with_findings(Finding("shift", ("shift",), 0.9, pages.HOSTILE, (pages.HOSTILE * 100,))).html
    page = Page(html)
    assert page.broken == []
    assert len([tag for tag in page.all("script") if "type" not in tag]) == 1
    assert not set("\u202e\u2066\x00\x1b") & set(html)


@pytest.mark.usefixtures("undrawn")
def test_what_is_skipped_for_one_reason_stands_in_one_line() -> None:
    html = with_findings(a="no model", b="no model", c="no audio").html
    assert "<b>a, b</b> skipped: <bdi>no model</bdi>" in html
    assert "<b>c</b> skipped: <bdi>no audio</bdi>" in html


@pytest.mark.usefixtures("undrawn")
def test_the_index_names_the_causes() -> None:
    d = pages.diagnosis("healthy")
    d.faults = [CLIPPED, SHIFT]
    html = build_index([IndexEntry.of("a", d, pages.UNIT)], "index")
    text = Page(html).text
    assert text.index(FAULTS["shift"].title) < text.index(FAULTS["clipped"].title)
    assert "verdict case fail" in html
    assert "Nothing needs repair" not in text


def test_every_check_is_shown_with_its_threshold_and_answer() -> None:
    report = pages.report("collapsed")
    text = Page(report.html).text
    for check in report.twin["diagnosis"]["verdict"]["checks"]:
        assert check["name"] in text
    assert "< 0.2" in text


def test_figures_have_text_alternatives_with_the_finding() -> None:
    page = Page(pages.report("fixable").html)
    charts = [tag for tag in page.all("svg") if tag.get("role") == "img"]
    assert len(charts) == 12
    assert all(re.search(r"\d", tag["aria-label"] or "") for tag in charts if tag["class"] == "chart")
    assert all((tag["alt"] or "").strip() for tag in page.all("img"))


def test_figures_take_their_ink_from_the_page() -> None:
    html = pages.report("fixable").html
    for svg in re.findall(r"<svg class=\"chart\".*?</svg>", html, re.DOTALL):
        assert "currentColor" in svg
        assert not re.search(r"#[0-9a-f]{6}\b", svg), "no colour of matplotlib's own"
        assert "font-family" not in svg


@pytest.mark.usefixtures("undrawn")
def test_sounds_are_flac_in_order_and_state_their_gain() -> None:
    import soundfile

    html = build_report(pages.report_input("fixable", level_match=False)).html
    labels = re.findall(r"<audio[^>]*aria-label=\"([\w, ]+), utt", html)
    assert labels == ["recording", "target, copy synthesis", "prediction as it is", "calibrated", "constant"]
    assert "Loudness is not matched." in html
    assert "gain -9.5 dB, as loud as full scale allows" in html
    data = base64.b64decode(re.findall(r"data:audio/flac;base64,([^\"]+)", html)[0])
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == pages.RATE
    assert np.abs(samples - pages.sound()[0]).max() < 1e-4
    matched = pages.report("fixable").html
    assert "gain +15.6 dB" in matched
    assert "Loudness is matched to the recording by RMS" in matched


@pytest.mark.usefixtures("undrawn")
def test_a_sound_that_cannot_be_played_is_skipped_with_the_reason() -> None:
    d = pages.diagnosis("fixable")
    shown = dataclasses.replace(
        pages.example(d),
        audio={"raw": (np.array([np.nan], np.float32), 22050), "target": (np.zeros(0, np.float32), 22050)},
    )
    html = build_report(pages.report_input("fixable", examples=[shown])).html
    assert "NaN or infinite samples" in html
    assert "it has no samples" in html


def many(count: int) -> Diagnosis:
    d = pages.diagnosis("fixable")
    rows = [
        dataclasses.replace(d.utterances[0], name=f"speaker-3/chapter_{i:05d}", mae_after=1 + i / 9973, r_w=i / 1e5)
        for i in range(count)
    ]
    return dataclasses.replace(d, utterances=rows, n_utterances=count)


def embedded(html: str) -> dict[str, list[object]]:
    """The table of all utterances as the script reads it."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    out: dict[str, list[object]] = json.loads(found)
    return out


@pytest.mark.usefixtures("undrawn")
def test_ten_thousand_utterances_are_on_the_page_and_it_stays_small() -> None:
    report = build_report(pages.report_input("fixable", diagnosis=many(10_000)))
    data = embedded(report.html)
    assert len(data["name"]) == 10_000
    assert data["after"] == sorted(data["after"], reverse=True)
    silent = re.sub(r"data:audio/flac;base64,[^\"]+", "", report.html)
    assert len(silent.encode()) < 1_500_000
    page = Page(report.html)
    assert "The worst 100 of 10,000; the others need JavaScript, or the JSON twin." in page.text
    assert "chapter_09999" in page.text
    assert "chapter_09899" not in page.text.replace(json.dumps(data), "")
    assert len(report.twin["diagnosis"]["utterances"]) == 10_000


@pytest.mark.usefixtures("undrawn")
def test_a_table_too_large_for_the_page_is_cut_with_a_statement() -> None:
    report = build_report(pages.report_input("fixable", diagnosis=many(30_000), examples=[]))
    kept = len(embedded(report.html)["name"])
    assert 10_000 < kept < 30_000
    assert f"The table holds the worst {kept:,} of 30,000; all are in the JSON twin." in Page(report.html).text
    assert len(report.html.encode()) < 1_500_000


@pytest.mark.usefixtures("undrawn")
def test_the_table_carries_texts_and_their_direction_while_they_are_small() -> None:
    d = pages.diagnosis("fixable")
    texts = {d.utterances[0].name: (pages.PERSIAN, "fa"), d.utterances[1].name: ("</script>", "en")}
    html = build_report(pages.report_input("fixable", texts=texts)).html
    data = embedded(html)
    where = data["text"].index(pages.PERSIAN)
    assert data["dir"][where] == 2
    assert "</script>" in data["text"]
    assert f'<td dir="rtl"><bdi>{pages.PERSIAN}</bdi>' in html
    long = {u.name: ("word " * 20_000, "en") for u in d.utterances}
    rows = embedded(build_report(pages.report_input("fixable", texts=long)).html)["text"]
    assert all(len(str(row)) < 200 for row in rows)


def test_commands_are_cut_out_of_prose() -> None:
    parts = commands("compare the front ends: calib frontends diff A B")
    assert parts == [(False, "compare the front ends: "), (True, "calib frontends diff A B")]
    assert (True, "calib stats") in commands("zero (calib stats on the training mels names it)")
    assert (True, "calib synth --params") in commands("use it, or calib synth --params")
    assert "".join(text for _, text in commands("a calib report PAIRS b.")) == "a calib report PAIRS b."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.80796, "1.808"),
        (0.12387, "0.1239"),
        (14268, "14,268"),
        (-4e-16, "0"),
        (0.000472, "0.000472"),
        (float("nan"), "not finite"),
        (None, "none"),
        (32.1652, "32.17"),
    ],
)
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


def test_long_and_hidden_characters() -> None:
    assert clipped("a" * 500, 10) == "aaaaaaaaaa… (500 characters; all of them in the JSON)"
    assert visible("a\u202eb\nc") == "a\\u202eb\\u000ac"


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, calib.report; print([m for m in ('jinja2','pandas','matplotlib','PIL','soundfile','scipy','torch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_index_shows_every_case_by_relative_paths() -> None:
    page = Page(pages.index({"target": "collapsed/target wav.wav"}))
    assert page.broken == []
    links = [tag["href"] for tag in page.all("a")]
    assert "collapsed/report.html" in links
    assert "fixable/report.json" in links
    assert page.all("audio")[0]["src"] == "collapsed/target%20wav.wav"
    assert page.text.count("Nothing was repaired.") == 2
    assert "skipped:" in page.text


@pytest.mark.parametrize(
    "path", ["https://example.org/x", "//example.org/x", "/etc/passwd", "javascript:alert(1)", "", "\\\\host\\x"]
)
def test_index_refuses_paths_that_are_not_relative(path: str) -> None:
    entry = IndexEntry("a", "H", "s", "pass", "ln", 1.0, 0.5, 0.8, 0.9, files={"x": path})
    with pytest.raises(UsageError, match="relative"):
        build_index([entry], "t")


@pytest.mark.usefixtures("undrawn")
def test_a_constant_that_fits_is_not_put_beside_the_findings_as_a_cause() -> None:
    """``known constant 2: the target is ln of power``: the gloss stands in the table only."""
    d = pages.diagnosis("fixable")
    name = d.after.name
    d.rows = [
        dataclasses.replace(row, title="known constant 2: the gloss") if row.name == name else row for row in d.rows
    ]
    text = Page(build_report(pages.report_input("fixable", diagnosis=d)).html).text
    assert "known constant 2" in text[: text.index("Findings")]
    assert "the gloss" not in text[: text.index("Findings")]
    assert "known constant 2: the gloss" in text


# --- order, thresholds, intervals ---------------------------------------------------------------------------------


def test_the_page_has_its_fixed_order(any_html: str) -> None:
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", any_html)
    assert [title for title in headings if title in ORDER] == list(ORDER)
    text = Page(any_html).text
    assert text.index("looked for, not found") < text.index(" Findings ")


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_has_a_threshold_that_is_a_number(fault: str) -> None:
    assert re.search(r"\d|no more than unrelated", threshold(Finding(fault, (fault,), 0.9, margin=3.2)))


def test_faults_are_counted_and_none_is_lost() -> None:
    d = pages.diagnosis("fixable")
    d.faults = [SHIFT, CLIPPED]
    found = dict(counts(d))
    numbers = {kind: int(words.split()[0]) for kind, words in found.items()}
    assert numbers["fail"] == 1
    assert numbers["warn"] == 1
    also = len({name for finding in d.faults for name in finding.names} - {finding.fault for finding in d.faults})
    assert sum(numbers.values()) + also == len(FAULTS)
    assert dict(counts(pages.diagnosis("insufficient")))["skip"].startswith(f"{len(FAULTS)} ")


def test_intervals_of_errors_hold_the_truth_as_often_as_they_say() -> None:
    """Against simulated corpora of eight utterances of one length: 95 % of the intervals, give or take chance."""
    rng = np.random.default_rng(0)
    d = pages.diagnosis("fixable")
    held = 0
    for _ in range(400):
        errors = rng.normal(1.0, 0.2, 8)
        rows = [
            dataclasses.replace(d.utterances[0], name=str(k), n_frames=100, mae_after=float(e))
            for k, e in enumerate(errors)
        ]
        found = margins(dataclasses.replace(d, utterances=rows))
        assert isinstance(found, Margins)
        held += found.after.low <= 1.0 <= found.after.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_interval_of_equal_utterances_is_students() -> None:
    from scipy import stats

    d = pages.diagnosis("fixable")
    errors = np.array([0.3, 0.5, 0.4, 0.9, 0.6])
    rows = [dataclasses.replace(d.utterances[0], n_frames=50, mae_after=float(e), mae_constant=1.0) for e in errors]
    found = margins(dataclasses.replace(d, utterances=rows))
    assert isinstance(found, Margins)
    low, high = stats.t.interval(0.95, 4, errors.mean(), errors.std(ddof=1) / np.sqrt(5))
    assert (found.after.low, found.after.high) == pytest.approx((low, high))
    assert (found.gain.low, found.gain.high) == pytest.approx((low - 1, high - 1))
    assert found.needed == pytest.approx(-0.05)


@pytest.mark.usefixtures("undrawn")
def test_too_few_utterances_have_no_interval_and_the_page_says_so() -> None:
    d = pages.diagnosis("fixable")
    d.utterances = d.utterances[:4]
    assert margins(d) == "4 utterances; an interval over utterances needs 5"
    report = build_report(pages.report_input("fixable", diagnosis=d))
    assert "intervals of the errors: 4 utterances; an interval over utterances needs 5" in Page(report.html).text
    assert report.twin["margins"] == {"skipped": "4 utterances; an interval over utterances needs 5"}


def test_the_gain_over_the_constant_is_judged_by_its_interval() -> None:
    assert "the fit is worth more than a constant" in Page(pages.report("fixable").html).text
    assert "the fit is worth no more than a constant" in Page(pages.report("collapsed").html).text


# --- pictures, sounds, legs, settings -----------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_the_first_screen_shows_the_constant_beside_what_the_fit_makes() -> None:
    d = pages.diagnosis("collapsed")
    shown = dataclasses.replace(pages.example(d), prediction=np.zeros((100, 40), np.float32))
    shown = dataclasses.replace(shown, calibrated=np.full((100, 40), -4.0, np.float32))
    html = build_report(pages.report_input("collapsed", diagnosis=d, examples=[shown])).html
    start = html[: html.index('id="findings"')]
    alternatives = re.findall(r'<img [^>]*alt="([^"]+)"', start)
    assert [text.split(" spectrogram")[0] for text in alternatives] == [
        "target", "prediction", "after the refused fit", "constant, no model",
    ]  # fmt: skip
    assert sum("does not move" in text for text in alternatives) == 3
    assert "Nothing of the target&#39;s speech is in what the fit makes of it" in start
    assert "Nothing of the target" not in pages.report("fixable").html


def test_the_difference_has_a_signed_scale_of_its_own() -> None:
    scale = signed_scale(np.linspace(-1.0, 3.0, 1001)[:, None])
    assert scale is not None
    assert scale.low == -scale.high
    assert scale.high == pytest.approx(2.92, abs=0.02)
    assert signed_scale(np.full((3, 3), np.nan)) is None
    zero = signed_scale(np.zeros((3, 3)))
    assert zero is not None
    assert zero.high > 0
    html = pages.report("fixable").html
    assert "difference: calibrated - target" in html
    assert "a scale of its own, 0 in the middle" in html


def test_a_picture_keeps_its_budget_but_for_its_least_columns() -> None:
    noise = np.random.default_rng(0).standard_normal((900, 80))
    scale = common_scale(noise)
    assert scale is not None
    assert len(mel_image(noise, scale, 30_000)) <= 30_000
    assert len(mel_image(noise, scale, 1_000)) > 1_000


def test_sounds_are_cut_where_the_page_would_grow_too_large() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * pages.RATE).astype(np.float32)
    made, limit = sounds_within(300_000, [{"target": (noise, pages.RATE)}] * 3, level_match=True)
    assert limit is not None
    assert 1.0 <= limit < 3.0
    assert sum(len(s.url or "") for row in made for s in row) <= 300_000
    assert all(s.seconds == pytest.approx(limit, abs=0.01) for row in made for s in row)
    whole, limit = sounds_within(10_000_000, [{"target": (noise, pages.RATE)}], level_match=True)
    assert limit is None
    assert whole[0][0].seconds == pytest.approx(3.0)


def test_legs_that_were_not_measured_say_what_they_need() -> None:
    report = pages.report("fixable")
    found = section(Page(report.html).text, "Target, prediction, vocoder")
    assert found.count("skipped:") == 3
    assert "--vocoder-frontend NAME" in found
    assert "--audio SOURCE" in found
    assert "prediction against target: fixable" in found
    assert report.twin["legs"]["skipped"].startswith("needs what the vocoder wants")


@pytest.mark.usefixtures("undrawn")
def test_legs_are_drawn_with_their_judgement() -> None:
    broken = Leg("T-V", "fail", "other mels", "5.0 dB apart", r_w=0.9, bias=0.1, slope=1.0, mae_db=5.0)
    legs = {"T-V": broken, **{name: skipped_leg(name, "needs free running") for name in ("P-T", "P-V", "F-T")}}
    found = Legs("front-end", "FRONT END TO BLAME", "the targets are others", legs, ("convert: calib convert",), {"name": "hifigan_jik", "origin": "x"})  # fmt: skip
    report = build_report(pages.report_input("fixable", legs=found))
    text = section(Page(report.html).text, "Target, prediction, vocoder")
    for words in ("FRONT END TO BLAME", "other mels", "5.000 dB", "needs free running", "hifigan_jik"):
        assert words.replace("5.000", "5") in text, words
    assert '<line class="fail"' in report.html
    assert report.twin["legs"]["blame"] == "front-end"


@pytest.mark.usefixtures("undrawn")
def test_settings_that_are_not_the_default_are_marked() -> None:
    settings = (Setting("options", "--seed", 7, 0), Setting("options", "--limit", None, None))
    report = build_report(pages.report_input("fixable", settings=settings))
    text = Page(report.html).text[-4000:]
    assert re.search(r"--seed\s+options\s+7\s+not the default\s+0", text)
    assert "1 settings as they are by default" in text
    assert [row["changed"] for row in report.twin["settings"]] == [True, False]


def test_residuals_of_a_straight_line_lie_about_zero() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros((64, 64))
    x = np.linspace(-4, 4, 65)
    p = rng.normal(0, 1, 200_000)
    np.add.at(counts, (np.clip(((p + 4) * 8).astype(int), 0, 63), np.clip(((p + rng.normal(0, 0.1, p.size) + 4) * 8).astype(int), 0, 63)), 1)  # fmt: skip
    d = pages.diagnosis("healthy")
    d.density = {"edges_prediction": x, "edges_target": x, "counts": counts}
    _, finding = residuals(d, "nat")
    away = float(re.findall(r"lies ([\d.]+) nat", finding)[0])
    wide = float(re.findall(r"middle 90 % are ([\d.]+) nat", finding)[0])
    assert away < 0.02
    assert wide == pytest.approx(2 * 1.645 * 0.1, abs=0.08)


def test_what_taylor_and_the_bins_say_after_the_fit_is_what_the_moments_say() -> None:
    """Against moments computed from the arrays themselves."""
    d = pages.diagnosis("fixable")
    targets = pages.mels()
    rng = np.random.default_rng(1)
    predictions = [(0.5 * y + 2.0 + 0.1 * rng.standard_normal(y.shape)).astype(np.float32) for y in targets]
    y, c = (np.concatenate(rows).astype(np.float64) for rows in (targets, [d.calibration(p) for p in predictions]))
    y_w, c_w = y - y.mean(0), c - c.mean(0)
    found = after_within(d)
    assert found is not None
    assert found[0] == pytest.approx(np.sqrt((c_w**2).mean() / (y_w**2).mean()), rel=1e-5)
    assert found[1] == pytest.approx((c_w * y_w).sum() / np.sqrt((c_w**2).sum() * (y_w**2).sum()), rel=1e-5)
    _, finding = bin_errors(d, "nat")
    own = np.sqrt(((c - y) ** 2).mean(0))
    assert f"{number(float(np.sqrt((own**2).mean() / (y.std(0) ** 2).mean())))} times" in finding


# --- colours ------------------------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_is_wcag_aa_in_both_schemes(scheme: int) -> None:
    """4.5 for text on every ground that it stands on, 3 for what a figure is drawn with."""
    css = (FOLDER / "style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", css.split("@media")[scheme]))
    texts = [("ink", g) for g in ("bg", "card", "mark")] + [
        (t, g) for t in ("soft", "link") for g in ("bg", "card", "mark")
    ]
    texts += [(status, "card") for status in ("fail", "warn", "pass")]
    pairs = [(a, b, 4.5) for a, b in texts] + [(line, "card", 3.0) for line in ("t", "p", "c", "k", "skip")]
    for a, b, least in pairs:
        high, low = sorted((_luminance(colours[a]), _luminance(colours[b])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= least, (a, b)


def test_the_smallest_error_in_bold_is_one_that_a_file_could_hold() -> None:
    """An oracle that sees the true frame before may be nearer than any fit: a reference, never the recommendation."""
    d = pages.diagnosis("fixable")
    rows = [dataclasses.replace(row, mae=1e-3) if row.name == "persistence" else row for row in d.rows]
    d = dataclasses.replace(d, rows=rows)
    html = build_report(pages.report_input("fixable", diagnosis=d)).html
    table = html[html.index('id="metrics"') :]
    table = html_module.unescape(table[: table.index("</table>")])
    bold = re.findall(r'<th scope="row">([^<]*)(?:<small>[^<]*</small>)?</th><td class="n best">', table)
    written = {row.title for row in d.rows} - {TITLES[name] for name in REFERENCES}
    assert bold
    assert set(bold) <= written
    before, after = table.split("References: no file holds them")
    assert all(TITLES[name] in after and TITLES[name] not in before for name in REFERENCES)
    assert "not computed" not in table


def test_the_step_to_use_the_files_names_them() -> None:
    text = Page(pages.report("fixable").html).text
    assert "calib synth --params mel_scaling_params.json --stats mel_normalization_stats.json" in text
    command = "calib synth --params mel_scaling_params.json --stats mel_normalization_stats.json"
    assert (True, command) in commands(f"use both, or {command}")


def test_no_nats_are_shown_to_a_person() -> None:
    finding = Finding("log-base", ("log-base",), 0.9, margin=4.605)
    assert threshold(finding).endswith("the next explanation is 100 times less likely")
    assert not re.search(r"\bnats?\b", Page(with_findings(finding).html).text)
