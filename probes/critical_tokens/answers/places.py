"""How numbers are written elsewhere: thousands and decimals, signs and codes of money, units and scales in other scripts.

Only what can be read in one way counts: 1'234.5 and 1.234,5 are 1234.5, but 1.234 is no thousand and 12,5 no decimal.
"""

import re

SIGNS = {
    "$": "dollar", "€": "euro", "£": "pound", "¥": "¥", "₹": "rupee", "₨": "rupee", "₩": "won", "₽": "rouble", "₪": "shekel",
    "₫": "dong", "₦": "naira", "₱": "peso", "₴": "uah", "฿": "baht", "₺": "tl", "₸": "tenge", "₼": "manat", "₾": "lari", "₡": "crc",
    "₲": "pyg", "₵": "ghs", "₭": "lak", "₮": "mnt", "৳": "taka", "៛": "riel", "﷼": "irr",
}  # fmt: skip
"""Signs of money that may stand before a number or behind it."""
_DOLLARS = {
    "US": "usd",
    "A": "aud",
    "AU": "aud",
    "C": "cad",
    "CA": "cad",
    "NZ": "nzd",
    "HK": "hkd",
    "S": "sgd",
    "NT": "twd",
    "R": "brl",
}
CODES = {code.upper(): code for code in "usd aud cad nzd hkd sgd twd brl sek nok dkk zar uah pln".split()} | {
    "EUR": "euro", "GBP": "pound", "CHF": "franc", "CNY": "yuan", "RMB": "yuan", "JPY": "yen", "KRW": "won", "INR": "rupee",
    "Rs.": "rupee", "Rs": "rupee", "MXN": "peso", "PHP": "peso", "RUB": "rouble", "THB": "baht", "VND": "dong", "NGN": "naira",
    "ILS": "shekel",
}  # fmt: skip
"""Names for it that may stand there too. A unit's own name is read as that unit, so it must be no word of English."""
MONEY = frozenset({*SIGNS.values(), *_DOLLARS.values(), *CODES.values(), "cent"})
MONEY_SIGN = rf"[{''.join(SIGNS)}]"
MONEY_BEFORE = rf"(?:(?:{'|'.join(_DOLLARS)})\$|{MONEY_SIGN}|(?:{'|'.join(map(re.escape, CODES))})(?=\s?[-+]?\.?\d))"
"""What may stand before a number and say which money it is: $, R$, CHF."""
_KINDS = {"dollar": {"usd", "aud", "cad", "nzd", "hkd", "sgd", "twd"}, "¥": {"yen", "yuan"}}


def money(written: str) -> str:
    """Returns the money that a sign or code names, "" for none."""
    return SIGNS.get(written) or CODES.get(written) or _DOLLARS.get(written.removesuffix("$"), "")


def same_money(a: str, b: str) -> bool:
    """Returns whether two names of money may be of one: dollars without a country are those of any, ¥ is yen or yuan."""
    return a == b or a in _KINDS.get(b, ()) or b in _KINDS.get(a, ())


# ---------------------------------------------------------------------- thousands


_APOSTROPHES = re.compile(r"(?<![\w.,'’])\d{1,3}(?:['’]\d{3})+(?!\d|['’]\d)")
_POINTS = re.compile(
    r"(?<![\w.,'’/^])(?:[1-9]\d{0,2}(?:\.\d{3}){2,}(?![\w.,]\d|\d)|[1-9]\d{0,2}(?:\.\d{3})+,\d+(?![\w.,]\d|\d))"
)
_SPACES = re.compile(r"(?<![\d.,/^ ])(?<![\d/^] )[1-9]\d{0,2}(?: \d{3})+,(?:\d{1,2}|\d{4,})(?![\d/]|[ .,]\d)")


def without_apostrophes(text: str) -> str:
    """Returns a text with 1'234.5 as 1234.5."""
    return _APOSTROPHES.sub(lambda number: re.sub("['’]", "", number[0]), text)


def decimal_point(text: str) -> str:
    """Returns a text with 1.234,5 and 1 234,5 as 1234.5, and 1.234.567 as 1234567: where a list is not meant."""
    text = _POINTS.sub(lambda number: number[0].replace(".", "").replace(",", "."), text)
    return _SPACES.sub(lambda number: number[0].replace(" ", "").replace(",", "."), text)


# ---------------------------------------------------------------------- words


_SCALES = {
    10**2: "百 백", 10**3: "千 천 тыс тысяча тысячи тысяч हज़ार พัน", 10**4: "万 萬 만 หมื่น", 10**5: "लाख แสน",
    10**6: "млн миллион миллиона миллионов ล้าน", 10**7: "करोड़", 10**8: "亿 億 억", 10**9: "млрд миллиард миллиарда миллиардов",
    12: "дюжина дюжины дюжин 打",
}  # fmt: skip
_UNITS = {
    "yuan": "元 圆 圓 元钱 块 塊 块钱 塊錢 人民币 人民幣", "yen": "円 日元 日圓", "won": "원 韩元 韓元",
    "usd": "美元 美金", "euro": "欧元 歐元 евро",
    "dollar": "ドル 달러 доллар доллара долларов डॉलर ดอลลาร์", "pound": "英镑 英鎊", "pln": "zł", "rupee": "रुपये रुपए", "baht": "บาท",
    "rouble": "руб рубль рубля рублей", "cent": "セント 센트 美分",
    "km": "公里 千米 キロメートル 킬로미터 км กิโลเมตร", "m": "米 メートル 미터 м เมตร", "mm": "毫米 мм",
    "cm": "厘米 公分 センチ センチメートル 센티미터 см เซนติเมตร",
    "kg": "千克 公斤 キログラム キロ 킬로그램 кг กิโลกรัม", "g": "克 グラム 그램 г กรัม", "l": "升 リットル 리터 л ลิตร", "ml": "毫升 мл",
    "hour": "小时 小時 時間 시간 час часа часов ชั่วโมง घंटे", "minute": "分钟 分鐘 분 мин минут минута минуты นาที मिनट",
    "second": "秒 초 секунд", "day": "天 일 день дня дней วัน दिन", "week": "周 週間 주 недель недели неделя สัปดาห์",
    "month": "个月 個月 か月 ヶ月 개월 месяц месяца месяцев", "year": "年 년 год года лет", "degree": "度 도",
    "": "个 個 個人 人 名 只 隻 本 本书 张 張 枚 件 次 回 岁 歳 才 匹 头 頭 支 瓶 杯 颗 朵 条 棵 辆 台 つ 冊 羽 "
        "개 명 살 세 권 마리 대 장 송이 병 번 шт штук штуки человек человека คน ชิ้น ตัว ใบ",
}  # fmt: skip
WORDS = {word: (scale, "") for scale, words in _SCALES.items() for word in words.split()} | {
    word: (1, unit) for unit, words in _UNITS.items() for word in words.split()
}
"""What a word of another script multiplies a number by, and its unit ("" for those that count things)."""
_WORD = re.compile("|".join(map(re.escape, sorted(WORDS, key=len, reverse=True))))


def word_elsewhere(tail: str) -> tuple[int, str, str] | None:
    """Returns what a word of another script behind a number multiplies it by, its unit and what follows; None for no such word."""
    found = _WORD.match(tail)
    if found is None:
        return None
    rest = tail[found.end() :]
    if rest[:1].isalpha() and not _is_written_together(found[0]):  # м is not the beginning of мальчик
        return None
    return *WORDS[found[0]], rest.removeprefix(".")


def _is_written_together(word: str) -> bool:
    """Whether words of a script follow each other without spaces."""
    return not any("\u0370" <= sign <= "\u052f" or "\u0900" <= sign <= "\u0dff" or sign.isascii() for sign in word)
