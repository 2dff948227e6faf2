"""The one number that a statement in prose gives: behind its last = sign, before its reasons, after words such as "a total of".

Words before a number are a list of those that leave it as it is; whoever writes others (nearly, a multiple of, one hundred and)
has given no number.
"""

import re
from fractions import Fraction

from probes.critical_tokens.answers.algebra import evaluate
from probes.critical_tokens.answers.numbers import LONGEST, Number, read_number, spelled, tidy
from probes.critical_tokens.answers.places import MONEY_BEFORE, MONEY_SIGN

_CUT = re.compile(
    r"\s*(?:;(?!\s*[-$.]?\d)|[(\[]|,\s+(?=[A-Za-z])|\b(?:because|since|as|so|which|where|when|after|given|who|and not|rather than|"
    r"instead of)\b|(?<=[a-z]) (?:for|in|at) (?:the |an? |each |every |all |\$)?\d[\d.,]*,? [a-z]+)",
    re.IGNORECASE,
)
_REASON = re.compile(
    r",?\s+(?:because|since|which|rather than|instead of|and not)\b|,\s+(?:as|so|not)\b|\s+\((?=[^()]*[A-Za-z=+*/×])[^()]*\)$"
)
_OTHER = re.compile(
    r"^[\s(\[,;]*(?:or|and(?! not\b)|but|possibly|maybe)\b(?=.*\d)|^[\s,;]*[A-Za-z]\w?\s*=", re.IGNORECASE
)
"""A second answer behind the first one: (or 19 if rounded), , y = 4."""
_EQUALS = re.compile(r"=|≈|\\approx|\\implies|→|\\rightarrow")
_LEAD = re.compile(
    rf"^(?P<words>[A-Za-z][A-Za-z',.\s]*?)(?:\s+|(?={MONEY_SIGN}))(?=[+-]?\s*(?:{MONEY_BEFORE})?\s*-?\s*(?:\.?\d|\\frac))"
)
_PLAIN = (
    "a an the total sum exactly precisely about approximately approx approx. roughly around circa only just simply"
    " therefore thus hence so then now also usd "
    "rs rs. us eur that which it this there is be are was were will would she he they we you i his her their our my"
    " your has have had having makes "
    "made making gets got earns earned spends spent needs needed pays paid costs cost takes took sells sold eats ate buys bought uses used "
    "receives received saves saved left amount answer result value equals of course indeed finally in fact"
)
_QUANTITIES = (
    "total amount average mean profit loss distance value cost price score time length width height weight age area volume speed rate "
    "grand bill salary income perimeter median probability change"
)
_MAY_LEAD = re.compile(
    rf"(?:(?:(?i:the number|of course|in fact|equal to|(?:grand |overall |combined )?total(?:"
    rf" (?:{'|'.join(_QUANTITIES.split())}|number))? of"
    rf"|an? (?:net |whole )?(?:{'|'.join(_QUANTITIES.split())}) of"
    rf"|{'|'.join(re.escape(word) for word in _PLAIN.split() if word != 'of')})|[A-Z][a-z]{{2,}}(?= (?:will |would"
    rf" )?(?:has|have|had|makes?|made|gets?|got|"
    r"earn(?:s|ed)|spen(?:ds|t)|needs?|needed|pays|paid|costs?|takes|took|sells|sold|eats|ate|buys|bought|uses|used"
    r"|receives?d?|saved|saves)\b)),?(?:\s+|$))*"
)
"""Words that may stand before a number and leave it as it is, names of people with a verb among them."""


_QUOTES = str.maketrans("“”‘’", "\"\"''")


def number_in(statement: str) -> Number | None:
    """Returns the one number that a statement gives, None where it gives none or several."""
    text = _without_reasons(_unwrapped(re.sub(r"<<[^<>]*>>", "", statement).translate(_QUOTES)))
    if text is None:
        return None
    twice = re.fullmatch(r"([A-Za-z][a-z -]+) \(([$\d][^()]*)\)(.*)", text)
    if twice:  # eighteen (18)
        words, found = spelled(twice[1]), read_number(twice[2] + twice[3])
        return found if words and found and words.value == found.value else None
    text, other = _cut(text)
    found = read_number(text) or _led(text)
    return found if other is None or (found and other.same(found)) else None


def _without_reasons(statement: str) -> str | None:
    """What a statement gives behind its last = sign; None where it gives more than one thing, or a bound."""
    if len(statement) > LONGEST or re.search(r"[<>≤≥]|\\[lg]eq?\b", statement):
        return None
    if not _equations(statement):
        return None
    if _EQUALS.search(statement):
        reason = _REASON.search(statement)
        if reason and re.search(r"\d", statement[: reason.start()]) and not _dangling(statement[: reason.start()]):
            statement = statement[: reason.start()]
        if re.search(r"(?:=|≈).*(?:[,;]\s|\b(?:or|and)\b).*(?:=|≈)", statement):  # x = 5 or x = -5
            return None
    text = tidy(statement)
    if text.lstrip("- ").startswith("$") and text.count("$") == 1 and not _EQUALS.search(statement):
        return text
    return _EQUALS.split(text)[-1].strip(" $")


_FORMULA = r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])|\d[a-z](?![a-z])|(?<![A-Za-z])(?:xy|ab|yz|xz|bc|ac|sin|cos|tan|log|ln)"


def _equations(statement: str) -> bool:
    """Whether all sides of a chain of = but the last are numbers or one name: x + y = 5 states no number."""
    sides = _EQUALS.split(re.sub(r"\\(?!frac|sqrt|log)[a-z]+|<<.*?>>", " ", statement))[:-1]
    for text in sides:
        clause = _CLAUSES.split(text.strip(" $*("))[-1].strip(" $")
        side = re.sub(
            r"(?<=[\d)%]) ?x ?(?=[$\d(])|(?<=[a-z]) x (?=[$\d])|^a (?=[a-z]{3})|\ba(?= [a-z]{3})", " ", clause
        )
        if not re.fullmatch(r"[A-Za-z](?:_?\{?\w\}?)?(?:\([a-z]\))?", side) and re.search(_FORMULA, side):
            return False
    return True


_CLAUSES = re.compile(r"[,;:] |\b(?:so|therefore|thus|hence|then|where|because|since)\b", re.IGNORECASE)
_NONE = Number(Fraction(0), unit="none")
"""Equal to no number."""


def _cut(text: str) -> tuple[str, Number | None]:
    """A text up to what is said about its number, and the second number if that gives one: 18%, or 0.18."""
    cut = _CUT.search(text, 1)
    if cut is None or not re.search(r"\d", text[: cut.start()]) or _dangling(text[: cut.start()]):
        return text, None
    head, rest = text[: cut.start()], text[cut.start() :]
    if _changes(head, rest):
        return text, _NONE
    beside = re.match(r"\s*[(\[]([-$\d.,]+)[)\]]", rest)
    if beside:  # 18 (18), but not 2 (3)
        return head, read_number(beside[1]) or _NONE
    if not _OTHER.match(rest):
        return head, None
    again = re.fullmatch(r"[\s(,]*or (?:simply |just )?([^()]*)\)?", rest)
    return head, (read_number(again[1]) if again else None) or _NONE


_REMARK = re.compile(
    r"\b(?:or (?:so|more|less|fewer|higher|lower|above|below|over|under|thereabouts|greater)|at (?:the )?(?:very )?(?:least|most"
    r"|minimum|maximum|best|worst)|plus|"
    r"minus|give or take|max(?:imum)?|min(?:imum)?|tops|squared|cubed|mod\w*|maybe|perhaps|possibly|probably not|not sure|excluding|times|"
    r"if \w+|unless|without|base|factorial|half|less|more or less|before (?:tax|tip)\w*|ish|to be (?:added|subtracted))\b",
    re.IGNORECASE,
)
"""What said behind a number makes it another one."""


def _changes(head: str, rest: str) -> bool:
    """Whether what stands behind a number is no remark on it: a factor (x + 1), a bound, a sum that comes to something else."""
    brackets = re.match(r"\s*[(\[]([^()\[\]]*)[)\]]", rest)
    if brackets is None:
        return bool(re.match(r"\s*,", rest) and _REMARK.match(rest.lstrip(" ,")))
    inside = brackets[1]
    if _REMARK.search(inside) and not re.match(r"\s*(?:not|and not) ", inside):
        return not re.match(r"\s*or (?:simply |just )?[-$\d]", inside)
    if re.search(r"(?<![A-Za-z'’])[B-HJ-Zb-hj-z](?![A-Za-z'’])", inside):
        return True
    value, given = evaluate(inside.split("=")[0]), read_number(head)
    return value is not None and given is not None and value != given.value


def _led(text: str) -> Number | None:
    """A number behind words such as "a total of", a sum worked out, a number in words."""
    lead = _LEAD.match(text)
    if lead is None:
        return _worked_out(text) or spelled(_without_lead(text))
    rest = text[lead.end() :]
    negative = re.search(r"(?:^|\s)(?:negative|minus)$", lead["words"], re.IGNORECASE)
    if re.search(r"\bA(?= ?$)", lead["words"]) or not _MAY_LEAD.fullmatch(
        lead["words"][: negative.start()] if negative else lead["words"]
    ):
        return _hundred_and(lead["words"], rest)
    if negative and re.match(r"\s*[-+]", rest):
        return None
    found = read_number(f"-{rest}" if negative else rest)
    return found if found is not None else _worked_out(rest)


def _without_lead(text: str) -> str:
    """A text without the words that leave a number as it is, articles apart."""
    found = re.match(
        r"(?:(?:about|approximately|exactly|only|just|therefore|thus|so|then|that|it is) )+", text, re.IGNORECASE
    )
    return text[found.end() :] if found else text


def _hundred_and(words: str, rest: str) -> Number | None:
    """A number of which words and digits are parts: a hundred and 18."""
    found = re.fullmatch(r"(.+ (hundred|thousand)) and", words, re.IGNORECASE)
    count, more = spelled(found[1]) if found else None, read_number(rest)
    if count is None or more is None or more.percent or not (0 < more.value < 100 and more.value.denominator == 1):
        return None
    return Number(count.value + more.value, unit=more.unit)


def _unwrapped(text: str) -> str:
    """A text without quotes or brackets around the whole of it."""
    inside = re.fullmatch(r"""\s*(?:"(.*)"|'(.*)'|`(.*)`|\[(.*)\]|\((.*)\)|\{(.*)\}|_*(.*?)_+)\.?\s*""", text)
    found = next((group for group in inside.groups() if group is not None), "") if inside else ""
    return (
        found
        if re.fullmatch(rf"(?:{MONEY_SIGN}|[-+\s])*[\d.,]+\s*[%\w]*", found) and not re.search(r",\d{3}", found)
        else text
    )


def _dangling(text: str) -> bool:
    return bool(re.search(r"[+*/×·÷^=-]\s*$", text))


def _worked_out(text: str) -> Number | None:
    sum_ = re.sub(r"(?<=[\d)])\s+[A-Za-z][A-Za-z ]*$", "", text)
    value = evaluate(sum_)
    return None if value is None or read_number(f"1{text[len(sum_) :]}") is None else Number(value)
