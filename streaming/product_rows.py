"""Products as rows of their table, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from labelstream.schemas.product import Product

_AS_THEY_ARE = ("product_id", "title", "brand", "category", "description", "alternative_ids")


def product_row(product: Product, received_at: datetime) -> dict[str, Any]:
    """A row of the products table."""
    return {name: getattr(product, name) for name in _AS_THEY_ARE} | {
        "product_hash": product.hash,
        "attributes": json.dumps(product.attributes, ensure_ascii=False),
        "price": product.price,
        "updated_at": product.updated_at or received_at,
    }


def product_of(row: Mapping[str, Any]) -> Product:
    """The message that a row was, as far as the models see it."""
    fields = {name: row[name] for name in _AS_THEY_ARE}
    return Product.model_construct(**fields, attributes=json.loads(row["attributes"]))
