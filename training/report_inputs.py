"""The files that the report is made of, checked: what is missing is named, with its file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelstream.schemas.errors import SettingsError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
_DIGITS = 16


class Part(BaseModel):
    """A piece of a file. Keys that the report has no use for may be there too; NaN and infinity may not."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Measure(Part):
    """A measure and its interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


class AblationRow(Part):
    """One way to make training labels, tried with one set of features."""

    name: str
    features: Literal["all", "without_cross_encoder"]
    content_ndcg: Measure
    atc: Measure
    content_ndcg_delta: Measure
    atc_delta: Measure


class Ablation(Part):
    """What each part of the training labels is worth.

    Attributes:
        simulated: Whether the engagement is simulated.
        baseline: What the differences are against.
        rows: In the order in which they are shown.
    """

    simulated: bool
    baseline: str
    rows: Annotated[list[AblationRow], Field(min_length=1)]


class Outcome(Part):
    """What a ranker reaches on held-out queries."""

    content_ndcg: float
    atc: float


class Point(Outcome):
    """What a ranker reaches whose labels were polarized so."""

    alpha: float
    beta: float


class Tradeoff(Part):
    """Content relevance against engagement.

    Attributes:
        simulated: Whether the engagement is simulated.
        catalogue: Whose products they are.
        points: One for each polarization that was tried.
        baseline: Without labels of content.
        front: Places of the points that no other point beats on both.
        chosen: Place of the point that was chosen.
        rule: By what rule.
    """

    simulated: bool
    catalogue: str
    points: Annotated[list[Point], Field(min_length=1)]
    baseline: Outcome
    front: list[Count]
    chosen: Count
    rule: str

    @model_validator(mode="after")
    def _places_are_points(self) -> Self:
        for key, places in (("front", self.front), ("chosen", [self.chosen])):
            wrong = [place for place in places if place >= len(self.points)]
            if wrong:
                raise ValueError(f"{key} names point {wrong[0]}, there are {len(self.points)}, counted from 0")
        return self

    @property
    def front_points(self) -> list[Point]:
        """The front, from the best engagement to the best content."""
        return sorted((self.points[place] for place in self.front), key=lambda point: (point.content_ndcg, -point.atc))

    @property
    def chosen_point(self) -> Point:
        """The point that was chosen."""
        return self.points[self.chosen]


class CostRow(Part):
    """How fast something labels pairs."""

    what: str
    pairs_per_second: Annotated[float, Field(gt=0)]
    hours_per_million: Annotated[float, Field(gt=0)]
    source: str


class Cost(Part):
    """What a million labels take.

    Attributes:
        rows: In the order in which they are shown.
        formula: How hours follow from pairs per second.
    """

    rows: Annotated[list[CostRow], Field(min_length=1)]
    formula: str


AnyPart = TypeVar("AnyPart", bound=Part)


class Source(NamedTuple):
    """Where something on the page is from.

    Attributes:
        what: What it is.
        path: The file, as it was named.
        digest: The first digits of its SHA-256, in hexadecimal.
    """

    what: str
    path: str
    digest: str


def read_part(path: Path, kind: type[AnyPart], *, what: str) -> tuple[AnyPart, Source]:
    """Read a JSON file.

    Args:
        path: The file.
        kind: What it must hold.
        what: How the page calls it.

    Raises:
        SettingsError: It cannot be read, or holds something else; the message names the file and the first key.
    """
    content = read_bytes(path)
    try:
        part = kind.model_validate_json(content)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise SettingsError(f"{path}: {_said(faults[0])}{more}; write the file anew, or leave it out") from error
    return part, Source(what, str(path), hashlib.sha256(content).hexdigest()[:_DIGITS])


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        SettingsError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a file that is there and may be read") from error


def _said(fault: Any) -> str:
    key = ".".join(str(step) for step in fault["loc"])
    return f"{key}: {fault['msg']}" if key else str(fault["msg"])
