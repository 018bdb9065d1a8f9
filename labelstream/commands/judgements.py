"""The options by which commands are told of human judgements, and how these are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelstream.commands.bad_lines import BadLines
from labelstream.console import err
from labelstream.printable import printable
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.scale import LabelScale

if TYPE_CHECKING:
    from labelstream.training.judgments import JudgedPairs, LoadReport


class Layout(StrEnum):
    """How judgements, and the catalogue that they are about, are written."""

    CHORUS = "chorus"
    PRODUCTS = "products"
    WORKBENCH = "workbench"
    WANDS = "wands"
    ESCI = "esci"


def _read_again(catalogue: Path | None) -> Path | None:
    """Judged products first, then all of them, or a digest: a pipe would be empty by then."""
    if catalogue is not None and not catalogue.is_file():
        raise typer.BadParameter(f"{catalogue} is no regular file, and it is read more than once; save it as a file")
    return catalogue


JudgmentsOption = Annotated[
    Path, typer.Option("--judgments", exists=True, help="CSV query,docid,rating; or what --layout says.")
]
CatalogueOption = Annotated[
    Path | None,
    typer.Option(
        "--catalogue", exists=True, callback=_read_again, help="The judged catalogue, JSON lines, plain or .gz; a file."
    ),
]
RatersOption = Annotated[
    Path | None,
    typer.Option(
        "--raters", exists=True, help="CSV query,docid,agent_1_rating,…: what each rater said; for chorus and products."
    ),
]
LayoutOption = Annotated[
    Layout,
    typer.Option(
        help="chorus: CSV and the Chorus catalogue. products: CSV and product messages of ours. workbench: judgements "
        "of OpenSearch's Search Relevance Workbench and product messages. wands, esci: --judgments is the folder."
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        help="Of --layout esci: a shop (us, es, jp), one part (train, test), the reduced set (small), with slashes, "
        "such as us/test/small. Left out: us, train and test together, all of it."
    ),
]

_LAYOUTS_WITH_RATERS = (Layout.CHORUS, Layout.PRODUCTS)

_ESCI_PARTS: dict[str, tuple[str, Any]] = {
    **{shop: ("locale", shop) for shop in ("us", "es", "jp")},
    **{split: ("split", split) for split in ("train", "test")},
    "small": ("small_version", True),
}


def read_judgements(
    judgments: Path,
    catalogue: Path | None,
    raters: Path | None,
    layout: Layout,
    scale: LabelScale,
    part: str | None = None,
) -> JudgedPairs:
    """Read judged pairs and say what was left out.

    Raises:
        SettingsError: A file is missing or cannot be read, nothing is left, or the layout has no such thing.
    """
    if raters is not None and layout not in _LAYOUTS_WITH_RATERS:
        raise SettingsError(f"--raters: --layout {layout} has no single raters; leave the option out")
    if part is not None and layout is not Layout.ESCI:
        raise SettingsError(f"--part: --layout {layout} has no parts, only esci has; leave the option out")
    pairs, report = _read(judgments, catalogue, raters, layout, scale, part)
    for line in report.lines():
        err.print(printable(line), soft_wrap=True)
    return pairs


def file_digests(judgments: Path, catalogue: Path | None, layout: Layout) -> dict[str, str]:
    """SHA-256 of every file that ``read_judgements`` reads, by what it is for and its name."""
    from labelstream.training.judgment_layouts import ESCI_FILES, WANDS_FILES
    from labelstream.training.manifest import digest

    folders = {Layout.WANDS: WANDS_FILES, Layout.ESCI: ESCI_FILES}
    if layout in folders:
        files = [("judgments", judgments / name) for name in folders[layout]]
    else:
        files = [("judgments", judgments), *([("catalogue", catalogue)] if catalogue else [])]
    return {f"{role}/{path.name}": digest(path).sha256 for role, path in files}


def _read(
    judgments: Path,
    catalogue: Path | None,
    raters: Path | None,
    layout: Layout,
    scale: LabelScale,
    part: str | None,
) -> tuple[JudgedPairs, LoadReport]:
    from labelstream.training.judgment_layouts import load_esci, load_wands, load_workbench
    from labelstream.training.judgments import load_judged_pairs

    if layout is Layout.WANDS:
        return load_wands(judgments, scale)
    if layout is Layout.ESCI:
        return load_esci(judgments, scale, **_esci_part(part or ""))
    products = read_catalogue(catalogue, layout)
    if layout is Layout.WORKBENCH:
        return load_workbench(judgments, products, scale)
    return load_judged_pairs(judgments, products, scale, raters=raters)


def _esci_part(part: str) -> dict[str, Any]:
    """What ``--part`` names, in any order."""
    words = part.split("/") if part else []
    if strange := [word for word in words if word not in _ESCI_PARTS]:
        raise SettingsError(f"--part {part}: {strange[0]!r} is none of {', '.join(_ESCI_PARTS)}")
    found = dict(_ESCI_PARTS[word] for word in words)
    if len(found) < len(words):
        raise SettingsError(f"--part {part}: name one shop and one of train and test, each once")
    return found


def read_catalogue(catalogue: Path | None, layout: Layout) -> Iterator[Product]:
    """Read the products of ``--catalogue``.

    Raises:
        SettingsError: It is not given or cannot be read.
    """
    from labelstream.streaming.importers import read_chorus_products, read_products

    if catalogue is None:
        raise SettingsError(
            f"--catalogue is missing; with --layout {layout} the judged products are in a file of their own"
        )
    read = read_chorus_products if layout is Layout.CHORUS else read_products
    return _counted(catalogue, read)


def _counted(catalogue: Path, read: Callable[[Path, BadLines], Iterator[Product]]) -> Iterator[Product]:
    bad = BadLines()
    yield from read(catalogue, bad)
    bad.tell_rest()
