"""Text of any script through every function that turns text into tokens, spans, words: tokenizers of all kinds, texts of all kinds."""

from typing import Any

import pytest

from interp.models.encoding import beginning, encode_piece
from tests.tiny_tokenizers import KINDS, of_kind

TEXTS = {
    "Latin": "Řeka teče pomalu. El señor Łukasz mangea l'œuf naïve, così è l'été; 3.50 € for a re-entry.",
    "decomposed": "Le cafe\u0301 de l'e\u0301te\u0301 est ferme\u0301.",
    "Cyrillic": "Ключ лежит под ковром у двери. Где ключ? Он там!",
    "Greek": "Το κλειδί είναι κάτω από το χαλί. Ποιος το έβαλε εκεί;",
    "Chinese": "钥匙在门口的垫子下面。谁把它放在那里的？是我！",
    "Japanese": "鍵はマットの下にあります。コーヒーを飲みながら読む。",
    "Thai": "กุญแจอยู่ใต้พรมที่หน้าประตู น้ำใสไหลเย็น",
    "Hindi": "चाबी दरवाज़े के पास चटाई के नीचे है। किसने रखी?",
    "Arabic": "المِفتاح تحتَ السجادة عند الباب. مَن وضعه هناك؟",
    "Hebrew": "הַמַּפְתֵּחַ מִתַּחַת לַשָּׁטִיחַ. מִי שָׂם אוֹתוֹ שָׁם?",
    "emoji": "The family 👨‍👩‍👧 went by 🚲 in the 🌧️, thumbs up 👍🏽! 🇵🇹 won ❤️.",
    "code": "def f(x):\n    return {'a': x[0]}  # two  blanks\n\n\tif x != 3.5:\n        f(x)\n",
    "log": "2026-01-03T04:05:06Z ERROR [db-7] timeout=3.50s id=0xDEADBEEF\n2026-01-03T04:05:07Z WARN  retry #2",
}
ALL = tuple(TEXTS.values())
LOSSLESS = [kind for kind in KINDS if kind.startswith("byte")]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_script = pytest.mark.parametrize("script", TEXTS)


def bare(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def lossless(kind: str, script: str) -> bool:
    return kind in LOSSLESS


@every_kind
@every_script
def test_a_first_text_is_what_the_tokenizer_writes_and_a_piece_goes_on_as_in_one_text(kind, script):
    tokenizer, text = of_kind(kind, ALL), TEXTS[script]
    first = encode_piece(tokenizer, text, first=True)
    assert first.ids == bare(tokenizer, text)
    begun = [*beginning(tokenizer, "auto"), *first.ids]
    whole = tokenizer(text)["input_ids"]
    assert whole[: len(begun)] == begun
    assert set(whole[len(begun) :]) <= set(tokenizer.all_special_ids)
    for place in (place for place, sign in enumerate(text) if sign == " " and text[place - 1] not in " \n\t"):
        before, after = text[:place], text[place:]
        joined = [*encode_piece(tokenizer, before, first=True).ids, *encode_piece(tokenizer, after).ids]
        assert joined == first.ids
