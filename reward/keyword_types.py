"""The 18 types of keywords, and how a phrase's type is told from an attribute's name or the words alone."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class KeywordType(StrEnum):
    """What a keyword says about an item."""

    ENTITY = "entity"
    MODIFIER = "modifier"
    BRAND = "brand"
    MATERIAL = "material"
    STYLE = "style"
    FUNCTION = "function"
    LOCATION = "location"
    AUDIENCE = "audience"
    COLOUR = "colour"
    SCENE = "scene"
    SPECIFICATION = "specification"
    PRICE = "price"
    MODEL = "model"
    ANCHOR = "anchor"
    SERIES = "series"
    MARKETING = "marketing"
    SEASON = "season"
    PATTERN = "pattern"


#: Other names under which shops keep these attributes.
_ALIASES: Final = {
    "type": KeywordType.ENTITY, "product_type": KeywordType.ENTITY, "category": KeywordType.ENTITY,
    "color": KeywordType.COLOUR, "finish": KeywordType.COLOUR, "color_finish": KeywordType.COLOUR,
    "size": KeywordType.SPECIFICATION, "sizes": KeywordType.SPECIFICATION, "dimension": KeywordType.SPECIFICATION,
    "gender": KeywordType.AUDIENCE, "age": KeywordType.AUDIENCE, "manufacturer": KeywordType.BRAND,
    "room": KeywordType.LOCATION, "occasion": KeywordType.SCENE, "collection": KeywordType.SERIES,
}  # fmt: skip

_NAMES: Final = {kind.value: kind for kind in KeywordType}

_SEEDS: Final = {
    KeywordType.COLOUR: "black white grey gray red green blue navy beige brown pink yellow orange purple violet silver gold "
    "chrome bronze nickel ivory cream tan teal turquoise burgundy",
    KeywordType.MATERIAL: "steel wood wooden oak pine cedar maple walnut leather suede canvas cotton wool silk linen "
    "polyester nylon vinyl pvc plastic rubber glass ceramic porcelain marble granite stone brick concrete aluminum "
    "aluminium copper brass iron metal mesh foam bamboo rattan velvet denim",
    KeywordType.STYLE: "modern classic vintage retro rustic contemporary traditional industrial casual minimalist",
    KeywordType.FUNCTION: "waterproof wireless rechargeable adjustable cordless programmable portable folding foldable "
    "insulated electric solar waterless cushioned lightweight breathable",
    KeywordType.LOCATION: "indoor outdoor kitchen bathroom garden patio garage bedroom office exterior interior wall "
    "ceiling floor",
    KeywordType.AUDIENCE: "women men kids children baby toddler girls boys unisex adult senior dog cat",
    KeywordType.SCENE: "wedding party camping hiking travel running yoga school office gift picnic",
    KeywordType.PRICE: "cheap budget affordable discount premium luxury",
    KeywordType.MARKETING: "new sale bestseller popular exclusive limited free bonus deluxe",
    KeywordType.SEASON: "spring summer autumn fall winter christmas halloween easter",
    KeywordType.PATTERN: "striped floral plaid checked dotted solid camouflage paisley geometric",
}

_SEED_OF: Final = {word: kind for kind, words in _SEEDS.items() for word in words.split()}

_UNITS: Final = (
    "in inch inches ft foot feet yd mm cm m km oz lb lbs kg g gal gallon l ml qt pt v volt volts w watt watts amp amps hp "
    "gb tb mb mah btu cfm psi gpm gpf gauge ga pack piece pc count light lights handle panel grit ply tier drawer door"
)
_MEASURE: Final = re.compile(rf"(?:size )?\d[\d./x×-]*(?: ?x ?\d[\d./]*)*[ -]?(?:{'|'.join(_UNITS.split())})\.?$|size \w+$")
_MODEL: Final = re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9-]{4,}$")


def type_of_attribute(name: str) -> KeywordType:
    """The type of an attribute's values; a name that says nothing is a modifier."""
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _NAMES.get(key) or _ALIASES.get(key, KeywordType.MODIFIER)


def type_of_phrase(phrase: str) -> KeywordType | None:
    """The type that the words alone give away: a known word, a measure, a model number; None for any other."""
    words = phrase.split()
    known = {_SEED_OF.get(word) for word in words}
    if len(known) == 1 and None not in known:
        return known.pop()
    if _MEASURE.match(phrase):
        return KeywordType.SPECIFICATION
    if len(words) == 1 and _MODEL.match(phrase):
        return KeywordType.MODEL
    return None
