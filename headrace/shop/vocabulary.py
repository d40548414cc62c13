"""The words of the simulated shop: product types with synonyms, brands and attribute values, by category.

Brands are invented. A type's first name is its proper one; the others are what people also call it.
"""

from __future__ import annotations

from typing import NamedTuple


class ProductType(NamedTuple):
    """``price`` is the median in the shop's currency; ``sizes`` names a row of `SIZES`."""

    names: tuple[str, ...]
    price: float
    sizes: str


class Category(NamedTuple):
    """Attribute values that every type of the category draws from."""

    name: str
    types: tuple[ProductType, ...]
    brands: tuple[str, ...]
    styles: tuple[str, ...]
    materials: tuple[str, ...]
    audiences: tuple[str, ...]


SIZES: dict[str, tuple[str, ...]] = {
    "": ("",),
    "wear": ("S", "M", "L", "XL"),
    "shoe": ("size 37", "size 39", "size 41", "size 43"),
    "bed": ("single", "double", "queen", "king"),
    "room": ("small", "medium", "large"),
    "rug": ("80x150 cm", "120x170 cm", "160x230 cm"),
    "volume": ("0.5 l", "1 l", "2 l", "5 l"),
    "pan": ("20 cm", "24 cm", "28 cm"),
    "screen": ("13 inch", "15 inch", "24 inch", "27 inch"),
    "storage": ("64 gb", "128 gb", "256 gb"),
    "pack": ("2 pack", "4 pack", "10 pack"),
    "bag": ("15 l", "25 l", "40 l"),
    "length": ("1 m", "2 m", "5 m"),
}

COLOURS = ("black", "white", "grey", "navy", "red", "green", "beige", "brown", "pink", "yellow")

#: First word of a product line; a number follows it in the title.
SERIES = (
    "Aero", "Basal", "Cirro", "Delta", "Ember", "Fjord", "Glade", "Halo", "Iris", "Juno", "Kite", "Luma", "Mira", "Nimbus",
    "Onyx", "Pico", "Quill", "Rune", "Solis", "Tarn", "Ursa", "Vela", "Wren", "Zephyr",
)  # fmt: skip


def _types(*rows: tuple[str, float, str]) -> tuple[ProductType, ...]:
    return tuple(ProductType(tuple(names.split("|")), price, sizes) for names, price, sizes in rows)


CATEGORIES: tuple[Category, ...] = (
    Category(
        "shoes",
        _types(
            ("running shoes|jogging shoes|runners", 85, "shoe"),
            ("sneakers|trainers|casual shoes", 70, "shoe"),
            ("hiking boots|walking boots|trekking boots", 120, "shoe"),
            ("sandals|flip flops", 40, "shoe"),
            ("slippers|house shoes", 28, "shoe"),
        ),
        ("Strydon", "Velpace", "Northfoot", "Kelda", "Brisko", "Solano", "Tramont", "Pedra"),
        ("waterproof", "lightweight", "cushioned", "retro"),
        ("leather", "mesh", "suede", "canvas"),
        ("women", "men", "kids"),
    ),
    Category(
        "clothing",
        _types(
            ("t-shirt|tee|tshirt", 18, "wear"),
            ("rain jacket|raincoat|waterproof coat", 75, "wear"),
            ("hoodie|hooded sweatshirt", 45, "wear"),
            ("jeans|denim trousers", 60, "wear"),
            ("dress|frock", 55, "wear"),
        ),
        ("Maren", "Oslavi", "Threadway", "Lindqvist", "Calvera", "Moda Nord", "Ravello", "Basix"),
        ("slim fit", "oversized", "striped", "plain"),
        ("cotton", "linen", "polyester", "wool"),
        ("women", "men", "kids"),
    ),
    Category(
        "kitchen",
        _types(
            ("frying pan|skillet", 38, "pan"),
            ("kettle|water boiler", 34, "volume"),
            ("chef knife|kitchen knife|cooks knife", 45, ""),
            ("coffee maker|coffee machine", 95, "volume"),
            ("food container|lunch box|storage box", 16, "volume"),
        ),
        ("Kochwerk", "Tavola", "Brennhaus", "Ollapan", "Cucinetta", "Steelhart", "Vaporo", "Gusto"),
        ("nonstick", "dishwasher safe", "compact", "professional"),
        ("stainless steel", "cast iron", "ceramic", "glass"),
        ("family", "single household"),
    ),
    Category(
        "bedroom",
        _types(
            ("duvet cover|quilt cover|bedding set", 48, "bed"),
            ("pillow|cushion", 25, "room"),
            ("mattress topper|mattress pad", 110, "bed"),
            ("blanket|throw", 35, "bed"),
            ("bed sheet|fitted sheet", 24, "bed"),
        ),
        ("Dormira", "Nattljus", "Plumaro", "Sleepwell Bay", "Somnia", "Weichland", "Lunara", "Cotton Row"),
        ("cooling", "quilted", "reversible", "patterned"),
        ("cotton", "microfibre", "bamboo", "silk"),
        ("adults", "kids", "baby"),
    ),
    Category(
        "furniture",
        _types(
            ("office chair|desk chair|swivel chair", 160, ""),
            ("bookshelf|bookcase|shelving unit", 90, "room"),
            ("coffee table|sofa table", 110, "room"),
            ("sofa|couch|settee", 540, "room"),
            ("bar stool|counter stool", 65, ""),
        ),
        ("Holmvik", "Eikeland", "Fabrizo", "Sitwell", "Tischler", "Nordal", "Loftern", "Arbor & Oak"),
        ("modern", "industrial", "foldable", "rustic"),
        ("oak", "metal", "velvet", "bamboo"),
        ("adults", "kids"),
    ),
    Category(
        "lighting",
        _types(
            ("desk lamp|table lamp|reading lamp", 36, ""),
            ("floor lamp|standing lamp", 79, ""),
            ("string lights|fairy lights", 19, "length"),
            ("ceiling light|ceiling lamp", 64, "room"),
            ("light bulb|led bulb", 9, "pack"),
        ),
        ("Lumina", "Brightly", "Solvej", "Lampados", "Glimt", "Wattson", "Aurum", "Halden"),
        ("dimmable", "energy saving", "rechargeable", "vintage"),
        ("brass", "glass", "paper", "aluminium"),
        ("indoor", "outdoor"),
    ),
    Category(
        "electronics",
        _types(
            ("headphones|headset|earphones", 99, ""),
            ("bluetooth speaker|wireless speaker", 69, ""),
            ("monitor|computer screen|display", 220, "screen"),
            ("usb stick|flash drive|memory stick", 15, "storage"),
            ("phone charger|charging cable|usb charger", 19, "length"),
        ),
        ("Audiax", "Pixelo", "Voltic", "Sonarum", "Kiritech", "Byteway", "Nuvio", "Ondax"),
        ("noise cancelling", "wireless", "fast charging", "foldable"),
        ("aluminium", "plastic", "carbon", "braided nylon"),
        ("gaming", "office", "travel"),
    ),
    Category(
        "sports",
        _types(
            ("yoga mat|exercise mat|gym mat", 32, ""),
            ("dumbbells|hand weights", 48, "pack"),
            ("bicycle helmet|bike helmet|cycling helmet", 58, "wear"),
            ("water bottle|drinking bottle|flask", 20, "volume"),
            ("tent|camping shelter", 180, "room"),
        ),
        ("Peakline", "Ganza", "Fitforge", "Trailmark", "Corvo", "Altura Nine", "Swiftly", "Basecamp One"),
        ("lightweight", "insulated", "foldable", "nonslip"),
        ("rubber", "aluminium", "neoprene", "cork"),
        ("women", "men", "kids"),
    ),
    Category(
        "bags",
        _types(
            ("backpack|rucksack|school bag", 62, "bag"),
            ("suitcase|trolley|luggage", 130, "bag"),
            ("handbag|purse|shoulder bag", 80, ""),
            ("wallet|card holder", 35, ""),
            ("laptop sleeve|laptop case|notebook bag", 30, "screen"),
        ),
        ("Bagari", "Voyageur", "Nomadi", "Hartmoor", "Sacoche", "Portway", "Tessaro", "Urbanist"),
        ("waterproof", "expandable", "antitheft", "minimalist"),
        ("leather", "canvas", "nylon", "felt"),
        ("women", "men", "kids"),
    ),
    Category(
        "garden",
        _types(
            ("garden hose|water hose", 34, "length"),
            ("plant pot|flower pot|planter", 22, "room"),
            ("lawn mower|grass cutter", 260, ""),
            ("pruning shears|secateurs|garden scissors", 24, ""),
            ("barbecue|grill|bbq", 190, "room"),
        ),
        ("Gardenia", "Verdano", "Rasenkraft", "Bloomfield", "Terrako", "Greenhand", "Hortus", "Flamero"),
        ("portable", "weatherproof", "self watering", "heavy duty"),
        ("terracotta", "steel", "plastic", "teak"),
        ("balcony", "terrace", "lawn"),
    ),
    Category(
        "beauty",
        _types(
            ("shampoo|hair wash", 9, "volume"),
            ("face cream|moisturiser|day cream", 26, ""),
            ("hair dryer|blow dryer|hairdryer", 55, ""),
            ("toothbrush|electric toothbrush", 49, "pack"),
            ("perfume|fragrance|eau de toilette", 64, ""),
        ),
        ("Belisa", "Purelle", "Cosmea", "Dermavie", "Florentin", "Saphira", "Naturae", "Oralis"),
        ("organic", "fragrance free", "travel size", "sensitive"),
        ("aloe vera", "argan oil", "charcoal", "rose"),
        ("women", "men", "kids"),
    ),
    Category(
        "toys",
        _types(
            ("building blocks|construction bricks", 36, "pack"),
            ("board game|family game", 30, ""),
            ("jigsaw puzzle|picture puzzle", 17, ""),
            ("teddy bear|cuddly bear|stuffed animal", 22, "room"),
            ("remote control car|rc car", 52, ""),
        ),
        ("Ludoria", "Kinderwelt", "Brickadoo", "Playmoor", "Tinkerton", "Bambolo", "Joyfield", "Wonderbox"),
        ("educational", "magnetic", "glow in the dark", "washable"),
        ("wood", "plastic", "plush", "cardboard"),
        ("toddlers", "kids", "adults"),
    ),
)
