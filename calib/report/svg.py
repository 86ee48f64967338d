"""matplotlib figures as inline SVG that takes the page's fonts and colours.

A figure is drawn in sentinel colours (`INK`, `TARGET`, …) that become CSS variables here, so that one picture serves
light, dark and print. What matplotlib writes as ``style="…"`` becomes presentation attributes, because the page's
content security policy forbids inline styles; ids that nothing refers to go, the others get the figure's prefix.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CALIBRATED", "CONSTANT", "GRID", "INK", "PREDICTION", "TARGET", "drawing", "inline_svg"]

INK, TARGET, PREDICTION, CALIBRATED, CONSTANT, GRID = "#000000", "#000011", "#000022", "#000033", "#000044", "#000055"
_VARIABLES = {
    INK: "currentColor",
    TARGET: "var(--t)",
    PREDICTION: "var(--p)",
    CALIBRATED: "var(--c)",
    CONSTANT: "var(--k)",
    GRID: "var(--line)",
}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DROPPED = {"font-family", "font-weight", "font-stretch", "font-variant", "font-style"}
_SETTINGS: Any = {  # Any: the stubs spell out every key
    "svg.fonttype": "none",
    "svg.hashsalt": "calib",
    "text.parse_math": False,
    "font.size": 9.2,
    "axes.labelsize": 9.2,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.8,
    "path.simplify": True,
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw with the report's own matplotlib settings, whatever the user's are; those come back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        # A unit in a script that the measuring font lacks is drawn by the browser's font all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """One figure as an ``<svg>`` element.

    Args:
        figure: what to draw.
        prefix: of its ids, its own on the page.
        label: text alternative.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(out.getvalue())  # noqa: S314 - matplotlib's own output
    for parent in list(root.iter()):
        for child in list(parent):
            if _tag(child) in {"metadata", "style"}:
                parent.remove(child)
    used = _used(root)
    for element in root.iter():
        element.tag = _tag(element)
        _clean(element, used, prefix)
    width, height = (float(root.attrib.pop(side).removesuffix("pt")) for side in ("width", "height"))
    root.attrib = {
        "class": "chart", "role": "img", "aria-label": label, "viewBox": root.attrib["viewBox"],
        "width": f"{width * 4 / 3:.0f}", "height": f"{height * 4 / 3:.0f}",
    }  # fmt: skip
    return ET.tostring(root, encoding="unicode")


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _used(root: ET.Element) -> set[str]:
    used: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            used.update(_REFERENCE.findall(value))
            if key.endswith("href") and value.startswith("#"):
                used.add(value[1:])
    return used


def _clean(element: ET.Element, used: set[str], prefix: str) -> None:
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]
        if name == "id":
            if value in used:
                attributes["id"] = f"{prefix}-{value}"
        elif name == "style":
            attributes.update(_presentation(value))
        elif name == "href":
            attributes["href"] = f"#{prefix}-{value[1:]}" if value.startswith("#") else value
        else:
            attributes[name] = value
    for key, value in attributes.items():
        attributes[key] = _VARIABLES.get(value.strip(), _REFERENCE.sub(rf"url(#{prefix}-\1)", value))
    if element.tag == "text":
        attributes.setdefault("fill", "currentColor")
    element.attrib = attributes
    if element.tag not in {"text", "tspan"}:
        element.text = None
    element.tail = None


def _presentation(style: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            out["font-size"] = next((part for part in value.split() if part.endswith("px")), "10px")
        elif name and name not in _DROPPED:
            out[name] = value
    return out
