"""The catalogue message and the text that models see of a product."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

MAX_ATTRIBUTES_SHOWN = 16


def _text_of_scalar(value: Any) -> Any:
    """Accept numbers and booleans where catalogues mean text (ids, attribute values)."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must be text or a finite number")
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value) if isinstance(value, int) else value


# A NUL never means anything in a text, PostgreSQL has no room for it, and DuckLake looks for file statistics with
# statements that it ends.
def _without_nul(text: str) -> str:
    return text.replace("\0", " ")


def _has_no_nul(identifier: str) -> str:
    if "\0" in identifier:
        raise ValueError("must not hold a NUL character")
    return identifier


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:  # pydantic passes on nothing but ValueError
        raise ValueError("lies outside the years 1 to 9999") from error


Text = Annotated[str, BeforeValidator(_text_of_scalar), AfterValidator(_without_nul)]
# Real catalogues write null for a text that they do not have.
TextOrNull = Annotated[Text, BeforeValidator(lambda value: "" if value is None else value)]
Identifier = Annotated[
    str, BeforeValidator(_text_of_scalar), Field(min_length=1, max_length=256), AfterValidator(_has_no_nul)
]
# Empty where there is no id.
IdentifierOrEmpty = Annotated[str, BeforeValidator(_text_of_scalar), Field(max_length=256), AfterValidator(_has_no_nul)]
# pydantic reads ISO strings and epoch numbers, seconds or milliseconds by size. Without a zone it is UTC.
Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Product(BaseModel):
    """One catalogue upsert, keyed by product id. A null Kafka value deletes the product instead."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    product_id: Identifier
    title: Text = Field(min_length=1)
    brand: TextOrNull = ""
    category: TextOrNull = ""
    description: TextOrNull = ""
    attributes: dict[str, TextOrNull] = Field(default_factory=dict)
    price: float | None = Field(default=None, ge=0)
    alternative_ids: list[Identifier] = Field(
        default_factory=list, description="Other ids that events may use, such as EAN or GTIN."
    )
    updated_at: Moment | None = None

    @field_validator("attributes", "alternative_ids", mode="before")
    @classmethod
    def _null_is_none(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[str(info.field_name)].get_default(call_default_factory=True) if value is None else value

    @field_validator("title")
    @classmethod
    def _title_has_text(cls, title: str) -> str:
        if not title.strip():
            raise ValueError("must hold more than white space")
        return title

    @property
    def hash(self) -> str:
        """Content hash of what the models see; a change of price alone does not ask for a new judgement."""
        return hashlib.blake2b(product_text(self).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def product_text(product: Product) -> str:
    """Render a product for a model, most telling field first, one field a line, empty fields left out.

    Shortening cuts from the end, so the order is also what is given up first: attributes, then description
    (docs/decisions.md, 41). Line breaks inside a field become spaces, so a field can never look like two.
    """
    shown = list(product.attributes.items())[:MAX_ATTRIBUTES_SHOWN]
    fields = (
        ("Title", product.title),
        ("Brand", product.brand),
        ("Category", product.category),
        ("Description", product.description),
        ("Attributes", "; ".join(f"{name}: {value}" for name, value in shown)),
    )
    lines = ((name, " ".join(text.split())) for name, text in fields)
    return "".join(f"{name}: {text}\n" for name, text in lines if text)


def product_of_text(product_id: str, text: str) -> Product:
    """A product of which nothing is left but what the models see of it.

    Args:
        product_id: Its own.
        text: As ``product_text`` made it, which makes the same of the answer.
    """
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in text.split("\n")) if name}
    # All attributes are one here: where one of them ends cannot be told, and makes no difference to the text.
    shown = fields.pop("attributes", "")
    name, found, value = shown.partition(": ")
    attributes = {name if found else shown.removesuffix(":"): value} if shown else {}
    return Product(product_id=product_id, attributes=attributes, **fields)
