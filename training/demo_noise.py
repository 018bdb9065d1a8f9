"""Text that says nothing about a product, for training: a labeller that never met any is moved by all of it.

Sellers write about delivery, in other scripts, in capitals, in codes and in circles. None of it changes what the
product is, so the label stays. The texts are put together at random from letters, numbers and everyday words; they
give no orders and imitate no prompt, so that a measurement with such texts is one on texts never seen.
"""

from __future__ import annotations

import random

from labelstream.schemas.product import Product

RUN = 64  # pairs; as many as a training batch has
SHORTEST, LONGEST = 8, 160  # bytes
_FIELDS = ("description", "title", "attributes", "brand", "category")
_FIELD_WEIGHTS = (10, 5, 3, 1, 1)

BOILERPLATE = (
    "Free shipping over {} euros", "Returns accepted within {} days", "Sent within {} hours", "{} year warranty",
    "Only {} left", "Sold in packs of {}", "Article {}", "New since last week", "Prices include all taxes",
    "Please note the washing instructions", "Gift wrapping on request", "Pay later or in {} parts",
    "Subject to change without notice", "Follow us for news and vouchers", "Voted shop of the month",
)  # fmt: skip
_EVERYDAY_TEXT = (
    "the and of a to in is it for on with as was at by an be this from or have not are but had we they you all her she "
    "there would their will when who him been has more if no out do so can what up said about other into than time its "
    "only some could new them man year over such our even most made after also did many off before must well back "
    "through years where much your way down should because long each just state people those how too better quite "
    "good world make very own see men work day get here old between both life being under three never know same last "
    "another while might great go come since against right came take used himself few house use during without again "
    "place around however found thought went say part once general upon school every nobody anything perhaps "
    "morning evening river mountain garden friend paper letter music window kitchen holiday market street "
    "doctor teacher question answer story number money minute police office history result moment family mother"
)
EVERYDAY = tuple(_EVERYDAY_TEXT.split())
# First and last letter of stretches that hold letters only.
_SCRIPTS = (
    "az", "ßö", "øÿ", "αω", "ая", "את", "بي", "कह", "กฮ", "ぁん", "ァン", "一龥", "가힣", "ａｚ", "𝐚𝐳", "ⓐⓩ", "աֆ",
)  # fmt: skip
_DIGITS = ("0123456789", "0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９", "①②③④⑤⑥⑦⑧⑨⑩")
_MARKS = "!?.,;:-+*/=&%$#@~^_\\|'\"()[]{}<>•…–—«»★☆✓→°™®\u200b\u2060\u202e"


class NoiseSource:
    """Adds noise to a share of the products that pass.

    It comes in runs, all of a run about as long: pairs that are trained together then differ little in length, and
    little time goes into padding.

    Args:
        seed: The same seed adds the same noise.
        share: Of the products, 0 to 1.
        after: So many products pass first, as they are.
    """

    def __init__(self, seed: int, share: float, after: int = 0) -> None:
        self._random = random.Random(f"noise {seed}")  # noqa: S311 - a simulation, not a secret
        self._share, self._passed, self._size = share, -after, 0

    def add_to(self, product: Product) -> Product:
        """The product, or the product with noise."""
        if self._passed >= 0 and self._passed % RUN == 0:
            size = SHORTEST * (LONGEST / SHORTEST) ** self._random.random()
            self._size = round(size) if self._random.random() < self._share else 0
        self._passed += 1
        return with_noise(self._random, product, self._size) if self._size else product


def with_noise(rng: random.Random, product: Product, size: int) -> Product:
    """The product with meaningless text of about so many bytes at the end of one of its fields."""
    field = rng.choices(_FIELDS, _FIELD_WEIGHTS)[0]
    text = noise(rng, size)
    if field == "attributes":
        return product.model_copy(update={field: {**product.attributes, rng.choice(EVERYDAY): text}})
    return product.model_copy(update={field: f"{getattr(product, field)} {text}".strip()})


def noise(rng: random.Random, size: int) -> str:
    """One or two kinds of meaningless text, in all about so many bytes of UTF-8."""
    kinds = rng.choices((_sentences, _words, _letters, _numbers, _markup), k=rng.choice((1, 1, 2)))
    pieces = [_stretched(rng, kind(rng), size // len(kinds)) for kind in kinds]
    return rng.choices((str, str.upper, str.title), (6, 1, 1))[0](" ".join(pieces))


def _stretched(rng: random.Random, text: str, size: int) -> str:
    """Cut or repeated; what is too short is said again, as sellers do."""
    encoded = text.encode()
    if len(encoded) < size:
        encoded = (text + rng.choice((" ", " ", ", ", "! ", "\n"))).encode() * (size // len(encoded) + 1)
    return encoded[:size].decode(errors="ignore")


def _sentences(rng: random.Random) -> str:
    chosen = rng.sample(BOILERPLATE, rng.randrange(1, 6))
    return ". ".join(sentence.format(rng.randrange(1, 100)) for sentence in chosen) + "."


def _words(rng: random.Random) -> str:
    return " ".join(rng.choice(EVERYDAY) for _ in range(rng.randrange(2, 40))).capitalize() + rng.choice(".!?:")


def _letters(rng: random.Random) -> str:
    first, last = map(ord, rng.choice(_SCRIPTS))
    return " ".join(
        "".join(chr(rng.randint(first, last)) for _ in range(rng.randrange(1, 10))) for _ in range(rng.randrange(1, 20))
    )


def _numbers(rng: random.Random) -> str:
    digits = rng.choice(_DIGITS)
    return rng.choice((" ", "-", "/", ", ", ".")).join(
        "".join(rng.choices(digits, k=rng.randrange(1, 7))) for _ in range(rng.randrange(1, 20))
    )


def _markup(rng: random.Random) -> str:
    return "".join(
        rng.choice((rng.choice(EVERYDAY), rng.choice(_MARKS), rng.choice(_MARKS) * rng.randrange(2, 5), " "))
        for _ in range(rng.randrange(4, 40))
    )
