"""From a matplotlib figure to SVG inside the page: one drawing, whose colours follow the page's light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

from labelstream.training.report_text import clean


class Colour(NamedTuple):
    """One role of a colour. The light one also marks the role inside a drawing, so no two roles share it."""

    role: str
    light: str
    dark: str


PAPER = Colour("paper", "#ffffff", "#12161c")
SURFACE = Colour("surface", "#f6f8fa", "#1b212a")
INK = Colour("ink", "#1b1f24", "#e6e9ee")
MUTED = Colour("muted", "#57606a", "#a3adb8")
RULE = Colour("rule", "#d0d7de", "#3a4450")
# Of Okabe and Ito's palette (2008), which people with any colour vision can tell apart. On a dark page its darkest
# blue would sink, so there the two blues change places.
BLUE = Colour("blue", "#0072b2", "#56b4e9")
SKY = Colour("sky", "#56b4e9", "#0072b2")
VERMILLION = Colour("vermillion", "#d55e00", "#d55e00")
GREEN = Colour("green", "#009e73", "#009e73")
PURPLE = Colour("purple", "#cc79a7", "#cc79a7")
ORANGE = Colour("orange", "#e69f00", "#e69f00")
GREY = Colour("grey", "#a6aeb7", "#7d8893")
COLOURS = (PAPER, SURFACE, INK, MUTED, RULE, BLUE, SKY, VERMILLION, GREEN, PURPLE, ORANGE, GREY)

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be found and copied, and takes the page's font
    "svg.hashsalt": "labelstream",  # the same figure gives the same ids
    "text.parse_math": False,  # a $ in a name is a $
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "text.color": INK.light,
    "axes.titlecolor": INK.light,
    "axes.labelcolor": INK.light,
    "axes.edgecolor": MUTED.light,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "grid.color": RULE.light,
}
_VARIABLES = {colour.light: f"var(--{colour.role})" for colour in COLOURS}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


@contextmanager
def drawing_style() -> Iterator[None]:
    """The look of all figures, whatever the reader's matplotlibrc says; draw and convert inside."""
    with style.context(_STYLE, after_reset=True):
        yield


def as_svg(figure: Figure, *, name: str, alternative: str) -> Markup:
    """Write a figure as an SVG element for an HTML page.

    Args:
        figure: Drawn with colours of ``COLOURS`` alone.
        name: Different for each figure of a page; its ids begin with it.
        alternative: What the figure shows, for those who cannot see it.

    Returns:
        The element. Its size is that of its surroundings; its colours are CSS variables, named by their roles.

    Raises:
        ValueError: A colour without a role, which would not follow light and dark.
    """
    root = ET.fromstring(_drawn(figure))  # noqa: S314 - our own drawing
    width, height = root.get("viewBox", "").split()[2:]
    _remove(root, "metadata", "style")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # an HTML parser knows SVG without its namespace
        _make_ids_unique(element, name)
        if "style" in element.attrib:
            element.set("style", _COLOUR.sub(_as_variable, element.attrib["style"]))
    root.attrib.clear()
    root.attrib.update({"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": clean(alternative)})
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - serialised, so escaped


def _drawn(figure: Figure) -> str:
    file = io.StringIO()
    with warnings.catch_warnings():
        # It only measures with this font; the browser draws the text, with a font that has the character.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from", category=UserWarning)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _remove(root: ET.Element, *names: str) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in names:
                parent.remove(child)


def _make_ids_unique(element: ET.Element, name: str) -> None:
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    target = element.attrib.pop(_XLINK_HREF, None)
    if target is not None:
        element.set("href", f"#{name}-{target.removeprefix('#')}")
    for key, value in element.attrib.items():
        if "url(#" in value:
            element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _as_variable(found: re.Match[str]) -> str:
    if found[0] not in _VARIABLES:
        raise ValueError(f"the drawing has the colour {found[0]}, which has no role on a dark page")
    return _VARIABLES[found[0]]
