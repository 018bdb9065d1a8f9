"""Documents of a ranking: from what was sent to what is ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from labelstream.actors.endpoint.bodies import dotted, field_errors, invalid
from labelstream.actors.endpoint.texts import TextLimits
from labelstream.schemas.http import FieldError, InlineProduct, RerankDocument
from labelstream.schemas.product import Product, TextOrNull

_VALUE: TypeAdapter[str] = TypeAdapter(TextOrNull)

_ONE_OF_THEM = "give text, product_id or product, one of the three, or name fields of it in rank_fields"

Place = tuple[str, int]


@dataclass(frozen=True)
class Documents:
    """Reads the documents of one request.

    Attributes:
        limits: How long their texts may be.
        rank_fields: Names of the fields that objects are ranked by, the most telling first; none for their ``text``.
    """

    limits: TextLimits
    rank_fields: Sequence[str]

    def read(self, documents: Sequence[RerankDocument]) -> list[str | Product]:
        """What is ranked of each document: an id of the catalogue, or a product.

        Raises:
            Refused: A text is missing, too long or no text.
        """
        return [self._read(document, ("documents", index)) for index, document in enumerate(documents)]

    def _read(self, document: RerankDocument, place: Place) -> str | Product:
        if document.product_id is not None:
            return document.product_id
        if document.product is not None:
            self.limits.check_product(document.product, *place, "product")
            return document.product
        text = self._text(document, place)
        self.limits.check_document(text, *place)
        return _product_of(text, place)

    def _text(self, document: RerankDocument, place: Place) -> str:
        fields = dict(self._fields(document, place))
        if len(self.rank_fields) == 1 and fields:  # there is nothing to tell it from
            return next(iter(fields.values()))
        if fields:
            return "\n".join(f"{name}: {value}" for name, value in fields.items())
        if document.text is not None:
            return document.text
        remedy = "has none of the fields that rank_fields names" if self.rank_fields else _ONE_OF_THEM
        raise invalid([_error(remedy, place)])

    def _fields(self, document: RerankDocument, place: Place) -> Iterator[tuple[str, str]]:
        """Those of ``rank_fields`` that hold something."""
        sent = {"text": document.text, **(document.model_extra or {})}
        for name in self.rank_fields:
            if value := _text_of(sent.get(name), *place, name):
                yield name, value


def _text_of(value: Any, *place: int | str) -> str:
    try:
        return _VALUE.validate_python(value)
    except ValidationError as error:
        raise invalid(field_errors(error, *place)) from None


def _product_of(text: str, place: Place) -> Product:
    """A text is a product of which nothing but the title is known."""
    try:
        return InlineProduct(title=text)
    except ValidationError as error:
        raise invalid([_error(found.message, place) for found in field_errors(error, *place)]) from None


def _error(message: str, place: Place) -> FieldError:
    return FieldError(field=dotted(place), message=message)


def shown(sent: Any) -> dict[str, Any]:
    """A document as it comes back: as it was sent, with all its fields."""
    return sent if isinstance(sent, dict) else {"text": RerankDocument.model_validate(sent).text}
