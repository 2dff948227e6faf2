"""Words by Unicode's rules: letters, the marks and joiners that belong to them, and texts that continue a word."""

import unicodedata

_JOINERS = "\u00ad\u200c\u200d\u2060"  # soft hyphen, zero-width non-joiner and joiner, word joiner
_INVISIBLE = f"{_JOINERS}\ufe0e\ufe0f"  # change how others look: joiners, variation selectors
_INSIDE_WORDS = "'’-\u2010\u2011\u05be\u05f3\u05f4\u0f0b"  # apostrophes, hyphens, Hebrew, Tibetan
_LOST = "\ufffd"  # what a part of a character's bytes is shown as

# Written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, Tai scripts, Balinese, Javanese, radicals, kana, Bopomofo,
# Han, Tangut.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x0F00, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F),
    (0x2E80, 0x2FDF),
    (0x3007, 0x3007),
    (0x3040, 0x312F),
    (0x31A0, 0x31BF),
    (0x3400, 0x9FFF),
    (0xA980, 0xA9FF),
    (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),
    (0x17000, 0x18DFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
# Letters that cannot begin a word: small kana, long vowels, voicing marks and signs that repeat what is before them.
_SMALL_KANA = "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶｧｨｩｪｫｬｭｮｯ" + "".join(map(chr, range(0x31F0, 0x3200)))
_REPEATS = "々〻〱〲〳〴〵ゝゞヽヾーｰ゛゜ﾞﾟๆໆៗ"
_VOWELS_AFTER = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"  # Thai and Lao letters that follow their consonant


def attaches(sign: str) -> bool:
    """Returns whether a character belongs to the one before it.

    Combining marks, variation selectors, joiners, skin tones and the tags of flags do, and letters that begin no word (ャ, ー, 々).
    """
    if unicodedata.category(sign)[0] == "M" or sign in _JOINERS or sign in _SMALL_KANA or sign in _REPEATS:
        return True
    return "\U0001f3fb" <= sign <= "\U0001f3ff" or "\U000e0020" <= sign <= "\U000e007f"


def is_letter(sign: str) -> bool:
    """Returns whether a character is a letter of any script; marks are not."""
    return unicodedata.category(sign)[0] == "L"


def holds_letters(text: str) -> bool:
    """Returns whether a text has a letter, or begins with the mark of one that stands before it."""
    if any(map(is_letter, text)):
        return True
    visible = text.strip().strip(_INVISIBLE)
    return bool(visible) and unicodedata.category(visible[0])[0] == "M"


def spells_letters(text: str) -> bool:
    """Returns whether a token spells letters, marks of letters, or part of a character's bytes (U+FFFD), which mostly is one's."""
    return _LOST in text or holds_letters(text)


def goes_on(text: str) -> bool:
    """Returns whether a text can continue the word before it: it begins with a letter, or with a character that occurs inside words.

    Those are combining marks, joiners, apostrophes and hyphens; U+FFFD, part of a character's bytes, counts too. No text goes
    on nothing, so "" does not.
    """
    return bool(text) and (is_letter(text[0]) or attaches(text[0]) or text[0] in _INSIDE_WORDS or text[0] == _LOST)


def is_unspaced(sign: str) -> bool:
    """Returns whether a character is of a script that has no spaces between words."""
    return any(first <= ord(sign) <= last for first, last in _UNSPACED)


def begins_word(text: str) -> bool:
    """Returns whether a new word begins with a text that stands after another one.

    It does behind a space; and with a letter of a script that has no spaces between words, where each may begin one.
    """
    if not text or text[0].isspace():
        return bool(text)
    if attaches(text[0]) or text[0] in _VOWELS_AFTER:
        return False
    return unicodedata.category(text[0]) == "Lo" and is_unspaced(text[0])


def is_word(text: str) -> bool:
    """Returns whether a text is one word: letters with their marks and joiners, in parts joined by hyphens or apostrophes."""
    parts = "".join(" " if sign in _INSIDE_WORDS else sign for sign in text).split(" ")
    return all(
        part and is_letter(part[0]) and all(is_letter(sign) or attaches(sign) for sign in part) for part in parts
    )


def normalised(text: str) -> str:
    """Returns the text with composed characters (NFC), no byte-order mark, and no blanks at its ends."""
    return unicodedata.normalize("NFC", text.replace("\ufeff", "")).strip()
