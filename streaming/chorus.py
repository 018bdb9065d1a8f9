"""One product of the Chorus catalogue as a product of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from labelstream.schemas.errors import BadRecord
from labelstream.schemas.messages import bad_record
from labelstream.schemas.product import Product

# What a shopper never searches for: how a product is boxed, stacked, taxed and filed.
_LOGISTICS = re.compile(
    r"(^|_)(pallets?|cartons?|packaging|intermodal|intrastat|harmonized|unspsc|gtin|upc|12nc|shipping"
    r"|master__outer|gross_weight|net_weight|tare_weight|content_per_package|country_of_origin"
    r"|last_change|ark_id|conflict_free|imperial)(_|$)|^package_"
)
# True of the product, but seldom what makes it the one that was wanted.
_SMALL_PRINT = re.compile(
    r"^(operating_|storage_temp|storage_rel|non_operating_|ac_input|input_current|power_requirements"
    r"|certification|rohs|status$|launch_date)|compliance$|dimensions"
)
# Worth a look before everything else.
_TELLING = (
    "product_type",
    "device_type",
    "type",
    "form_factor",
    "component_for",
    "product_colour",
    "compatibility",
    "brand_compatibility",
    "material",
    "display_diagonal",
    "cable_length",
)
_YES, _NO = (True, "Y"), (False, "N")
_CATEGORY_KEYS = ("attr_t_product_type", "attr_t_device_type")
# "operating_temperature__t_t_" was "Operating temperature (T-T)", "…_tdp_" was "… (TDP)".
_PARENTHESES = re.compile(r"^(?P<name>.+?)__(?P<inside>[^_].*)_$")
_FORMULA = re.compile(r"^([a-z])( \1)+$|^[lwdh]( ?x ?[lwdh])+$")


class _Attribute(NamedTuple):
    kind: str  # t, n or b: text, number, boolean
    key: str
    value: Any

    @property
    def rank(self) -> tuple[int, int]:
        """Most telling first: only the first few attributes reach the models."""
        if self.key in _TELLING:
            return 0, _TELLING.index(self.key)
        if self.value in _NO:
            return 5, 0
        if _SMALL_PRINT.search(self.key):
            return 4, 0
        if self.value in _YES:
            return 2, 0
        return (1 if self.kind == "t" else 3), 0


def parse_chorus_product(line: bytes) -> Product:
    """Read one line of Chorus' catalogue.

    ``supplier`` is the brand, ``short_description`` the description and ``ean`` the alternative ids. The
    price is in cents (an ink cartridge costs 12595, most prices end in 95) and becomes 125.95 of the unit.
    The category is the product or device type where one is given.

    Raises:
        BadRecord: Names the field and what is expected there.
    """
    try:
        document = from_json(line)
    except ValueError as error:
        raise BadRecord(f"record: no JSON ({error})") from None
    if not isinstance(document, dict):
        raise BadRecord("record: send one JSON object a line")
    category_key = next((key for key in _CATEGORY_KEYS if _has_letters(document.get(key))), "")
    try:
        return Product(
            product_id=document.get("id"),
            title=document.get("title") or document.get("name"),
            brand=document.get("supplier") or "",
            category=document.get(category_key, ""),
            description=document.get("short_description") or "",
            attributes=_attributes(document, without=category_key),
            price=_price(document.get("price")),
            alternative_ids=document.get("ean") or [],
        )
    except ValidationError as error:
        raise bad_record(error) from None


def _has_letters(value: Any) -> bool:
    return isinstance(value, str) and any(character.isalpha() for character in value)


def _price(cents: Any) -> Any:
    # Anything else goes on as it is, so that the product model names what is wrong with it.
    return cents / 100 if isinstance(cents, int | float) and not isinstance(cents, bool) else cents


def _attributes(document: dict[str, Any], *, without: str) -> dict[str, Any]:
    found = (attribute for key, attribute in _found(document) if key != without)
    ordered = sorted((a for a in found if not _LOGISTICS.search(a.key)), key=lambda attribute: attribute.rank)
    attributes: dict[str, Any] = {}
    for attribute in ordered:
        attributes.setdefault(readable_name(attribute.key), _readable_value(attribute.value))
    return attributes


def _found(document: dict[str, Any]) -> Iterator[tuple[str, _Attribute]]:
    for key, value in document.items():
        prefix, _, rest = key.partition("_")
        kind, _, name = rest.partition("_")
        if prefix == "attr" and kind in ("t", "n", "b") and name and value is not None:
            yield key, _Attribute(kind, name, value)


def readable_name(key: str) -> str:
    """Undo what Icecat's names went through: ``thermal_design_power__tdp_`` is thermal design power (tdp)."""
    if match := _PARENTHESES.match(key):
        inside = _spaced(match["inside"])
        suffix = "" if _FORMULA.match(inside) else f" ({inside})"
        return _spaced(match["name"]) + suffix
    return _spaced(key)


def _spaced(key: str) -> str:
    return " ".join(key.replace("_", " ").split())


def _readable_value(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.replace("\\n", "; ") if isinstance(value, str) else value
