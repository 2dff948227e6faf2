"""What stands behind a number: a scale, a percent sign, a unit with its power, rate and direction, or a noun.

Only what is known to leave the number as it is counts: units, plural nouns, and a few words such as "each". Anything else makes
the text no number: 18 at most, 3 sevenths, 5 ago.
"""

import re
import unicodedata
from typing import NamedTuple

from probes.critical_tokens.answers.places import CODES, MONEY, SIGNS, money, same_money, word_elsewhere

SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "dozen": 12, "dozens": 12, "lakh": 10**5, "lakhs": 10**5, "crore": 10**7, "crores": 10**7,
}  # fmt: skip
_GLUED = re.compile(r"(?P<thousands>k)(?!\w)|(?P<sign>[KMB])(?!\w)")
"""15k; and $15K, $2M, $3B, capitals of money only: 15 K are kelvins."""
_GLUED_SCALES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_CENT = "¢"
_UNITS = {
    "dollar": "dollar dollars bucks", "euro": "euro euros", "cent": "cent cents", "yen": "yen", "rupee": "rupee rupees rs rs.",
    "yuan": "yuan renminbi", "won": "won", "franc": "franc francs", "peso": "peso pesos", "rouble": "rouble roubles ruble rubles",
    "brl": "reais", "pln": "zloty zlotys", "shekel": "shekel shekels",
    "penny": "penny pennies pence", "nickel": "nickel nickels", "dime": "dime dimes",
    "nm": "nm nanometer nanometers nanometre nanometres", "um": "um μm µm micrometer micrometers micrometre micrometres microns",
    "mm": "mm millimeter millimeters millimetre millimetres", "cm": "cm centimeter centimeters centimetre centimetres",
    "dm": "dm decimeter decimeters", "m": "m meter meters metre metres", "km": "km kilometer kilometers kilometre kilometres",
    "inch": "in inch inches", "foot": "ft foot feet", "yard": "yd yds yard yards", "mile": "mi mile miles",
    "acre": "acre acres", "hectare": "ha hectare hectares",
    "mg": "mg milligram milligrams", "g": "g gram grams", "kg": "kg kilogram kilograms kgs", "ton": "ton tons", "tonne": "tonne tonnes",
    "ounce": "oz ounce ounces", "pound": "lb lbs pound pounds", "stone": "stone",
    "ml": "ml milliliter milliliters millilitre millilitres", "l": "l liter liters litre litres", "cl": "cl",
    "gallon": "gal gallon gallons", "quart": "qt quart quarts", "pint": "pint pints", "cup": "cup cups",
    "tablespoon": "tbsp tablespoon tablespoons", "teaspoon": "tsp teaspoon teaspoons", "barrel": "barrel barrels",
    "ns": "ns nanosecond nanoseconds", "us": "us μs µs microsecond microseconds", "ms": "ms millisecond milliseconds",
    "second": "s sec secs second seconds", "minute": "min mins minute minutes", "hour": "h hr hrs hour hours", "day": "day days",
    "week": "week weeks", "fortnight": "fortnight fortnights", "month": "month months", "year": "yr yrs year years",
    "decade": "decade decades", "century": "century centuries",
    "degree": "degree degrees deg", "radian": "rad rads radian radians", "kelvin": "kelvin kelvins",
    "am": "a.m. a.m am", "pm": "p.m. p.m pm",
    "bit": "bit bits", "byte": "byte bytes", "kb": "kb kilobyte kilobytes", "mb": "mb megabyte megabytes", "gb": "gb gigabyte gigabytes",
    "tb": "tb terabyte terabytes",
    "joule": "joule joules", "kj": "kj kilojoule kilojoules", "calorie": "calorie calories cal", "kcal": "kcal kilocalories",
    "watt": "watt watts", "kw": "kw kilowatt kilowatts", "kwh": "kwh kilowatt-hours",
    "volt": "volt volts", "ampere": "amp amps ampere amperes",
    "newton": "newton newtons", "pascal": "pascal pascals", "hertz": "hz hertz", "khz": "khz", "mhz": "mhz", "ohm": "ohm ohms",
    "mol": "mol mole moles", "profit": "profit", "loss": "loss", "gain": "gain", "pair": "pair pairs",
}  # fmt: skip
UNIT_OF = (
    {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
    | {unit: unit for unit in MONEY if unit.isascii()}
    | {code.lower(): unit for code, unit in CODES.items()}
    | {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "mpg": "mile/gallon", "fps": "foot/second"}
)
"""Units that are told apart, by their spellings."""
_SIDES = {
    "above": "above", "below": "below", "east": "east", "west": "west", "north": "north", "south": "south", "up": "up", "upward": "up",
    "upwards": "up", "down": "down", "downward": "down", "downwards": "down", "ahead": "ahead", "behind": "behind", "forward": "ahead",
    "forwards": "ahead", "backward": "behind", "backwards": "behind", "before": "before", "after": "after", "left": "left",
    "right": "right", "clockwise": "clockwise", "counterclockwise": "counterclockwise", "profit": "profit", "loss": "loss",
    "faster": "faster", "slower": "slower", "taller": "taller", "shorter": "shorter", "older": "older", "younger": "younger",
    "early": "early", "late": "late", "earlier": "early", "later": "late", "celsius": "C", "c": "C", "centigrade": "C", "fahrenheit": "F",
    "f": "F", "more": "more", "fewer": "fewer",
}  # fmt: skip
"""Directions and scales of degrees: two that are given must agree."""
_ORDINALS = (
    "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth "
    "eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth thousandth "
    "millionth billionth"
)
_COUNTS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety"
)
_NO_NOUNS = set(
    "or and to plus minus squared cubed choose factorial over divided multiplied through versus vs mod modulo modulus dozen dozens pi e "
    "sqrt times log ln sin cos tan not if unless half halves quarter quarters base basis raised infinity root point"
    " score gross lakh lakhs crore crores "
    "quadrillion mil bn tens hundreds thousands millions billions trillions power exp alpha beta gamma delta epsilon theta lambda mu "
    "sigma omega phi rho tau sinx myriads cosx tanx logx lnx ago hence short shy bc b.c b.c. bce off is are was be this its his less more "
    "fewer yes perhaps always sometimes plus besides of always radix cosines sines powers"
    # scales of other languages that look like English plurals
    " de del millones milliones millions milhoes milliards millards billones trillones trilhoes quintillions sextillions milhares millares"
    " milliers docenas duzias douzaines dizaines decenas dezenas centenas centenares centaines decimas decimos dixiemes centesimas"
    " centesimos centiemes milesimas milesimos milliemes".split()
) | {word + s for word in _ORDINALS.split() for s in ("", "s")} | {
    word + s for word in _COUNTS.split() for s in ("", "s", "es", "ies")
}  # fmt: skip
_LATER = set(
    "each left remaining total altogether overall apart away alone long tall high wide deep old only now today extra again o'clock".split()
)
"""Words that may stand alone behind a number."""
_PEOPLE = set(
    "people men women children sheep fish deer teeth mice geese dice cattle fruit furniture money change persons".split()
)
_UNSAYS = re.compile(
    r"\b(?:not|n't|wrong|incorrect|impossible|extraneous|invalid|than|squared|cubed|plus|minus|or|half|as many|as much"
    r"|less|ago|at (?:least|"
    rf"most|minimum|maximum)|\w+n't|and (?:an?|{'|'.join(_COUNTS.split())}))\b(?!-)",
    re.IGNORECASE,
)
_COMPARED = re.compile(
    r"\b(?:more|higher|lower|greater|fewer|above|below|over|under|points?|bigger|smaller|larger)\b", re.IGNORECASE
)
_DATE = re.compile(
    r"(?:st|nd|rd|th)?\s*(?:of\s+)?(?:january|february|march|april|may|june|july|august|september|october|november|december)\b",
    re.IGNORECASE,
)
_POWER = r"\^?\{?[23]\}?|[²³]| squared| cubed"
_UNIT = re.compile(
    rf"(?P<power>\^\{{?[23]\}}?|[²³])?(?:(?P<per>\s*/\s*| (?:per|an?|each|every|for each|for every)"
    rf" )(?P<rate>[a-zμµ][a-z.-]*)(?P<again>{_POWER})?)?"
    r"(?P<rest>(?:[^\d=+*^<>\\]*))",
    re.IGNORECASE,
)


class Behind(NamedTuple):
    """What stands behind a number: what it is multiplied by, whether it is a percentage, its unit ("" for none)."""

    scale: int
    percent: bool
    unit: str


def behind(tail: str, currency: str, *, one: bool = False) -> Behind | None:  # noqa: PLR0911
    """Returns what stands behind a number, None where it is no number after all; `one` where a noun may be singular."""
    elsewhere = word_elsewhere(tail.strip())
    if elsewhere is not None:
        return _elsewhere(*elsewhere, currency)
    spaced, tail = tail[:1].isspace(), _without_accents(tail).strip().strip("$").strip()
    unit = money(currency)
    if _UNSAYS.search(re.sub(r" (?:squared|cubed)", "^2", tail)) or _DATE.match(tail):
        return None
    if tail in {*SIGNS, _CENT} and not unit:
        return Behind(1, False, SIGNS.get(tail, "cent"))
    percent = re.fullmatch(r"(?:%|(?:percent|percentage|pct)\b)([^\d+]*)", tail, re.IGNORECASE)
    if percent:
        return None if _COMPARED.search(percent[1]) else Behind(1, True, unit)
    if not tail:
        return Behind(1, False, unit)
    if tail.startswith("°"):
        scale = re.fullmatch(r"°\s*([CF]?)(?![a-zA-Z])\D*", tail)
        return Behind(1, False, f"degree {scale[1]}".strip()) if scale else None
    return _words(tail, spaced, currency, one)


def _elsewhere(scale: int, unit: str, rest: str, currency: str) -> Behind | None:
    """What a word of another script says; a scale goes on: 18万元."""
    if scale == 1:
        return Behind(1, False, money(currency) or unit) if not rest.strip(" .") else None
    inner = behind(rest, currency)
    return None if inner is None else Behind(scale * inner.scale, inner.percent, inner.unit)


def _without_accents(text: str) -> str:
    """A text whose words are whole to those who look for a to z: centésimas does not begin with cents."""
    return re.sub("(?<=[a-zA-Z])[\u0300-\u0328]+", "", unicodedata.normalize("NFD", text))


def _words(tail: str, spaced: bool, currency: str, one: bool) -> Behind | None:  # noqa: PLR0911
    """The same for words. Glued to a number only what is known to be a unit counts."""
    glued = None if spaced else _GLUED.match(tail)
    if glued and (glued["thousands"] or currency):
        inner = behind(tail[glued.end() :], currency)
        return None if inner is None else Behind(_GLUED_SCALES[glued[0]] * inner.scale, inner.percent, inner.unit)
    raised = re.match(r"(square|sq\.?|cubic|cu\.?) (?=[a-z])", tail, re.IGNORECASE)
    words = re.match(r"[A-Za-zμµ][A-Za-z.'-]*", tail[raised.end() :] if raised else tail)
    if words is None:
        return None
    first, rest = words[0].lower(), tail[(raised.end() if raised else 0) + words.end() :]
    first, rest = (first, rest) if first in UNIT_OF else (first.rstrip("."), rest)
    if first in SCALES and spaced and not (currency and SCALES[first] == 12):  # $3 dozen is a price
        inner = behind(rest, currency, one=one)
        return None if inner is None else Behind(SCALES[first] * inner.scale, inner.percent, inner.unit)
    if _is_unit(words[0], rest):
        unit = _unit(
            UNIT_OF[first], rest, "" if raised is None else "^2" if raised[1].lower().startswith("s") else "^3"
        )
        return None if unit is None else Behind(1, False, money(currency) or unit)
    if first in ("unit", "units") and re.fullmatch(rf"(?:{_POWER})?\.?", rest):
        return Behind(1, False, money(currency))
    if not re.fullmatch(r"(?:[^\d=+*/^<>\\]|/(?=[A-Za-z]))*", rest):
        return None
    if first == "times" and not rest.strip():
        return Behind(1, False, "")
    return _noun(tail, currency, one) if spaced else None


def _is_unit(word: str, rest: str) -> bool:
    """Whether a word is a unit: single capitals are names or millions, "in" goes on to other words."""
    if word.lower() not in UNIT_OF or (len(word) == 1 and word.isupper() and word != "L"):
        return False
    return word.lower() != "in" or not re.match(r"\s*[a-z(]", rest, re.IGNORECASE)


def _unit(unit: str, rest: str, power: str) -> str | None:
    """A unit with its power, rate and direction: foot^2, m/second^2, degree C; None where what follows is no remark on it."""
    found = _UNIT.fullmatch(rest)
    if found is None:
        return None
    unit += power or _power(found["power"])
    rate = (found["rate"] or "").lower()
    if rate and (rate in UNIT_OF or "/" in found["per"] or "per" in found["per"] or "each" in found["per"]):
        unit += f"/{UNIT_OF.get(rate) or (rate if len(rate) < 4 else rate.rstrip('s'))}{_power(found['again'])}"
    words = re.findall(r"[a-z]+(?:-[a-z]+)*", found["rest"].lower())
    if words and words[0] in _NO_NOUNS - {"more", "fewer", "of", "off", "is", "are", "to", "and", "if"}:
        return None
    side = _SIDES.get(words[0]) if words else None
    if unit == "degree" and side in ("above", "below"):
        return None
    return f"{unit} {side}" if side else unit


def _power(text: str | None) -> str:
    text = (text or "").replace(" squared", "2").replace(" cubed", "3").translate(str.maketrans("²³", "23"))
    return f"^{text.strip('^{}')}" if text else ""


def _noun(tail: str, currency: str, one: bool) -> Behind | None:
    """A noun, with adjectives or "more" before it or words behind it: 18 large red marbles, 18 of the eggs, 18 in total."""
    unit = money(currency)
    words = re.findall(r"[A-Za-z][A-Za-z.'-]*", re.split(r"[,;(]", tail)[0].lower())
    if re.match(
        r"(?:in (?:total|all)|per|each|every)\b|(?:is|are) (?:the|our|my|your) (?:final |correct )?(?:answer|result|total)\b",
        tail,
        re.I,
    ):
        return Behind(1, False, unit)
    if not words or words[0] in _LATER:
        return Behind(1, False, unit) if words else None
    words = words[1:] if words[0] in ("more", "fewer", "additional", "of") and len(words) > 1 else words
    for at, word in enumerate(words[:3]):
        if word in _NO_NOUNS:
            return None
        if word in UNIT_OF and len(word) > 2 and word != "more":
            return Behind(1, False, unit or UNIT_OF[word])
        if is_plural(word) or (one and len(word) > 2 and re.search("[aeiouy]", word) and at == len(words[:3]) - 1):
            side = (
                _SIDES.get(words[1], "")
                if len(words) > 1 and words[1] not in ("left", "more", "before", "after", "late")
                else ""
            )
            return Behind(1, False, unit or (f"{word} {side}".strip() if at == 0 and is_plural(word) else ""))
    return None


def is_plural(word: str) -> bool:
    """Whether a word is a noun in the plural, as far as its ending tells."""
    return word in _PEOPLE or (len(word) > 3 and re.search(r"(?<![sui])s$", word) is not None and word not in _NO_NOUNS)


def units_agree(a: str, b: str) -> bool:
    """Whether two units may be of one quantity: the same as far as both are given; nouns that are no units are not told apart."""
    if not a or not b or a == b:
        return True
    (one, per, side), (other, again, other_side) = _parts(a), _parts(b)
    if not same_money(one, other):
        known = {unit.partition("/")[0] for unit in UNIT_OF.values()} | MONEY
        names = {one.partition("^")[0], other.partition("^")[0]}
        return not names & known and (side == other_side or not (side and other_side))
    return (per == again or (one in {*MONEY, "mile", "km"} and not (per and again))) and (
        side == other_side or not (side and other_side)
    )


def _parts(unit: str) -> tuple[str, str, str]:
    """A unit's name and power, its rate, its direction."""
    unit, _, side = unit.partition(" ")
    name, _, rate = unit.partition("/")
    return name, rate, side
