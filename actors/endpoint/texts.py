"""How long texts may be."""

from __future__ import annotations

from dataclasses import dataclass

from labelstream.actors.endpoint.bodies import dotted
from labelstream.actors.endpoint.problems import ProblemType, Refused
from labelstream.schemas.http import FieldError
from labelstream.schemas.keys import normalise_query
from labelstream.schemas.product import Product
from labelstream.schemas.settings import Settings


@dataclass(frozen=True)
class TextLimits:
    """Longest texts, in characters."""

    query: int
    product: int

    @classmethod
    def of(cls, settings: Settings) -> TextLimits:
        """As they are set."""
        return cls(settings.events.max_query_characters, settings.endpoint.max_text_characters)

    def check_query(self, query: str, *place: int | str) -> None:
        """Refuse a query that is too long, as typed or as it is used; ``place`` is where it lies in the body."""
        _check(len(query), self.query, place)
        # One character can stand for eighteen.
        _check(len(normalise_query(query)), self.query, place, written_out=", written out")

    def check_product(self, product: Product | None, *place: int | str) -> None:
        """Refuse a product whose texts, taken together, are too long."""
        if product is not None:
            named = sum(len(name) + len(value) for name, value in product.attributes.items())
            texts = (product.title, product.brand, product.category, product.description)
            _check(sum(map(len, texts), named), self.product, place)

    def check_document(self, text: str, *place: int | str) -> None:
        """Refuse a document that is too long."""
        _check(len(text), self.product, place)


def _check(length: int, longest: int, place: tuple[int | str, ...], written_out: str = "") -> None:
    if length > longest:
        message = f"has {length} characters{written_out}, where {longest} are allowed"
        errors = [FieldError(field=dotted(place), message=message)]
        raise Refused(ProblemType.TEXT_TOO_LONG, f"{dotted(place)}: {message}", errors=errors)
