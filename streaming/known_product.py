"""A product as the local store knows it."""

from __future__ import annotations

import json
from typing import NamedTuple

from labelstream.schemas.product import Product, product_text


class KnownProduct(NamedTuple):
    """What the stream needs of a product.

    Attributes:
        product_id: Its own id.
        hash: Content hash of ``text``.
        text: What the models see.
        alternative_ids: Other ids that events may use.
    """

    product_id: str
    hash: str
    text: str
    alternative_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, product: Product) -> KnownProduct:
        """The known part of a catalogue message."""
        return cls(product.product_id, product.hash, product_text(product), tuple(product.alternative_ids))

    @classmethod
    def decode(cls, value: bytes) -> KnownProduct:
        """From what ``encode`` made."""
        product_id, content_hash, text, aliases = json.loads(value)
        return cls(product_id, content_hash, text, tuple(aliases))

    def encode(self) -> bytes:
        """For the store."""
        return json.dumps(self).encode()
