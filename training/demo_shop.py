"""What the demo's shop sells: departments, categories, the words that shoppers use for them. Data only."""

from __future__ import annotations

from typing import NamedTuple


class Category(NamedTuple):
    """One shelf of the shop.

    Attributes:
        name: As it stands in the catalogue.
        department: Key of ``BRANDS``.
        nouns: What it is called; the first one stands in titles, shoppers use all of them.
        options: Attribute name to its possible values; a product has one value of each.
        prices: Lowest and highest price.
        substitutes: Categories that would do in a pinch.
    """

    name: str
    department: str
    nouns: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    prices: tuple[float, float]
    substitutes: tuple[str, ...] = ()


BRANDS: dict[str, tuple[str, ...]] = {
    "fashion": ("Norwick", "Solvane", "Marlowe", "Brindle", "Tarnfield", "Halden"),
    "home": ("Ashby", "Lumora", "Fjordby", "Kestrel", "Hearthly", "Wickham"),
    "electronics": ("Acme", "Voltaic", "Nimbus", "Quanta", "Pixelio", "Orbita"),
    "outdoor": ("Ridgeback", "Cairn", "Alpenro", "Driftwood", "Larkspur", "Boulderly"),
}

SERIES = ("Alba", "Nova", "Classic", "Studio", "Prime", "Essential", "Urban", "Heritage", "Aero", "Vista")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "grey": ("gray", "charcoal"),
    "red": ("crimson", "scarlet"),
    "blue": ("azure",),
    "white": ("ivory",),
    "small": ("compact", "little"),
    "large": ("big", "xl"),
    "wireless": ("bluetooth", "cordless"),
    "wired": ("cable",),
    "steel": ("metal", "stainless"),
    "aluminium": ("aluminum",),
}

_COLOURS = ("black", "white", "grey", "red", "blue", "green", "yellow", "pink")
_SIZES = ("small", "medium", "large")
_KNIT = ("wool", "cotton", "cashmere", "acrylic")
_SHELL = ("leather", "denim", "nylon", "fleece")
_SOFT = ("linen", "velvet", "wool", "cotton")
_LAMP = ("brass", "wood", "steel", "glass")
_WARE = ("steel", "glass", "ceramic", "plastic")
_CASING = ("aluminium", "plastic", "fabric")
_LINK = ("wireless", "wired")

CATEGORIES: tuple[Category, ...] = (
    Category("Scarves", "fashion", ("scarf", "scarves", "shawl"), {"colour": _COLOURS, "material": _KNIT}, (9, 80)),
    Category("Gloves", "fashion", ("gloves", "mittens"), {"colour": _COLOURS, "material": _KNIT}, (8, 60)),
    Category("Hats", "fashion", ("hat", "beanie", "cap"), {"colour": _COLOURS, "material": _KNIT}, (7, 50)),
    Category(
        "Jackets",
        "fashion",
        ("jacket", "coat", "jackets"),
        {"colour": _COLOURS, "material": _SHELL, "size": _SIZES},
        (40, 260),
        ("Sweaters",),
    ),
    Category(
        "Sweaters",
        "fashion",
        ("sweater", "jumper", "pullover"),
        {"colour": _COLOURS, "material": _KNIT, "size": _SIZES},
        (20, 140),
        ("Jackets",),
    ),
    Category(
        "Sneakers",
        "fashion",
        ("sneakers", "trainers"),
        {"colour": _COLOURS, "material": ("leather", "canvas")},
        (25, 160),
    ),
    Category(
        "Desk Lamps",
        "home",
        ("desk lamp", "table lamp", "reading light"),
        {"colour": _COLOURS, "material": _LAMP},
        (12, 120),
        ("Floor Lamps",),
    ),
    Category(
        "Floor Lamps",
        "home",
        ("floor lamp", "standing lamp"),
        {"colour": _COLOURS, "material": _LAMP},
        (30, 240),
        ("Desk Lamps",),
    ),
    Category("Rugs", "home", ("rug", "carpet"), {"colour": _COLOURS, "material": _SOFT, "size": _SIZES}, (25, 400)),
    Category("Cushions", "home", ("cushion", "throw pillow"), {"colour": _COLOURS, "material": _SOFT}, (8, 50)),
    Category("Kettles", "home", ("kettle", "water boiler"), {"colour": _COLOURS, "material": _WARE}, (15, 110)),
    Category(
        "Mugs", "home", ("mug", "coffee cup", "mugs"), {"colour": _COLOURS, "material": _WARE, "size": _SIZES}, (4, 30)
    ),
    Category(
        "Headphones",
        "electronics",
        ("headphones", "headset"),
        {"colour": _COLOURS, "connection": _LINK},
        (25, 320),
        ("Earbuds",),
    ),
    Category(
        "Earbuds",
        "electronics",
        ("earbuds", "earphones"),
        {"colour": _COLOURS, "connection": _LINK},
        (15, 240),
        ("Headphones",),
    ),
    Category(
        "Keyboards",
        "electronics",
        ("keyboard", "keyboards"),
        {"colour": _COLOURS, "connection": _LINK, "switch": ("mechanical", "membrane")},
        (15, 180),
    ),
    Category(
        "Computer Mice", "electronics", ("mouse", "computer mouse"), {"colour": _COLOURS, "connection": _LINK}, (9, 110)
    ),
    Category(
        "USB Hubs",
        "electronics",
        ("USB hub", "USB splitter"),
        {"colour": _COLOURS, "material": _CASING},
        (10, 70),
        ("Docking Stations",),
    ),
    Category(
        "Docking Stations",
        "electronics",
        ("docking station", "laptop dock"),
        {"colour": _COLOURS, "material": _CASING},
        (60, 280),
        ("USB Hubs",),
    ),
    Category(
        "Backpacks",
        "outdoor",
        ("backpack", "rucksack"),
        {"colour": _COLOURS, "material": ("canvas", "leather", "nylon"), "size": _SIZES},
        (20, 190),
    ),
    Category(
        "Tents",
        "outdoor",
        ("tent", "camping tent"),
        {"colour": _COLOURS, "season": ("summer", "winter"), "size": _SIZES},
        (50, 480),
    ),
    Category(
        "Water Bottles", "outdoor", ("water bottle", "drinking flask"), {"colour": _COLOURS, "material": _WARE}, (6, 45)
    ),
)
