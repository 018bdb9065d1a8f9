"""A small shop made up from a seed: products, what shoppers want, how they type it, and the truth about both.

Everything here is invented. It exists so that the demo, and a model small enough to be trained on a laptop,
have a task whose right answers are known.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from labelstream.schemas.product import Product
from labelstream.training.demo_shop import BRANDS, CATEGORIES, SERIES, SYNONYMS, Category

IRRELEVANT, MODERATE, HIGH = 0, 1, 2
BRAND_SHARE = 0.3
FILLER_SHARE = 0.15

_BY_NAME = {category.name: category for category in CATEGORIES}
# Words that shoppers add and that say nothing about the product's content (price is not part of it).
_FILLERS = ("cheap {}", "best {}", "buy {}", "{} online", "{} for sale", "{} deals")
_REMARKS = ("", "", "Made to last.", "A customer favourite.", "The perfect gift.", "Easy to care for.")


class QueryIntent(NamedTuple):
    """What a shopper wants, before it is put into words.

    Attributes:
        category: Name of the category asked for.
        brand: Brand asked for, or an empty string.
        options: The (attribute, value) pairs asked for, in the category's order.
    """

    category: str
    brand: str = ""
    options: tuple[tuple[str, str], ...] = ()


def demo_catalogue(*, seed: int = 1, products: int = 600) -> list[Product]:
    """Make up a catalogue.

    Args:
        seed: The same seed gives the same catalogue.
        products: How many; the categories take turns, so they are of equal size.

    Returns:
        Products with readable titles; each has a product id and one EAN as alternative id.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    return [_product(rng, CATEGORIES[number % len(CATEGORIES)], number) for number in range(products)]


def intent_met_by(rng: random.Random, product: Product) -> QueryIntent:
    """Want something that this product is a high match for: its category, and perhaps more of what it is."""
    asked = rng.choices((0, 1, 2), weights=(2, 5, 3))[0]
    chosen = rng.sample(sorted(product.attributes), min(asked, len(product.attributes)))
    options = tuple((name, value) for name, value in product.attributes.items() if name in chosen)
    brand = product.brand if rng.random() < BRAND_SHARE else ""
    return QueryIntent(product.category, brand, options)


def phrase(rng: random.Random, intent: QueryIntent) -> str:
    """Put an intent into words as shoppers type them: short, with synonyms, fillers and careless case."""
    noun = rng.choice(_BY_NAME[intent.category].nouns)
    values = [_word_for(rng, value) for _, value in intent.options]
    rng.shuffle(values)
    query = _arrange(rng, intent.brand, " ".join(values), noun)
    if rng.random() < FILLER_SHARE:
        query = rng.choice(_FILLERS).format(query)
    return rng.choices((query.lower(), query.title(), query.upper()), weights=(16, 3, 1))[0]


def relevance(intent: QueryIntent, product: Product) -> int:
    """The truth: index of the level in the default three-level ``LabelScale``.

    Returns:
        2 (high) where the category, the brand and every option asked for match; 1 (moderate) where the
        category is right and something else differs, or the category is a declared substitute; 0 otherwise.
    """
    if product.category == intent.category:
        brand_matches = intent.brand in ("", product.brand)
        options_match = all(product.attributes.get(name) == value for name, value in intent.options)
        return HIGH if brand_matches and options_match else MODERATE
    return MODERATE if product.category in _BY_NAME[intent.category].substitutes else IRRELEVANT


def _product(rng: random.Random, category: Category, number: int) -> Product:
    brand = rng.choice(BRANDS[category.department])
    options = {name: rng.choice(values) for name, values in category.options.items()}
    low, high = category.prices
    return Product(
        product_id=f"P{number:05d}",
        title=_title(rng, brand, category.nouns[0], list(options.values())),
        brand=brand,
        category=category.name,
        description=rng.choice(_REMARKS),
        attributes=options,
        price=round(low * (high / low) ** rng.random(), 2),
        alternative_ids=[_ean(number)],
    )


def _title(rng: random.Random, brand: str, noun: str, values: list[str]) -> str:
    orders = (f"{' '.join(values)} {noun}", f"{noun}, {', '.join(values)}")
    return _headline(f"{brand} {rng.choice(SERIES)} {rng.choice(orders)}")


def _headline(text: str) -> str:
    """Capital first letters; unlike ``str.title`` it leaves USB alone."""
    return " ".join(word[0].upper() + word[1:] for word in text.split())


def _ean(number: int) -> str:
    """An EAN-13 of the range for use inside a shop (prefix 20), with its check digit."""
    digits = f"20{number:010d}"
    weighted = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-weighted % 10}"


def _word_for(rng: random.Random, value: str) -> str:
    return rng.choice((value, value, *SYNONYMS.get(value, ())))


def _arrange(rng: random.Random, brand: str, values: str, noun: str) -> str:
    orders = ((brand, values, noun), (values, brand, noun), (values, noun, brand), (brand, noun, values))
    return " ".join(part for part in rng.choice(orders) if part)
