"""Short true-to-life texts of many scripts, with a needle each, for tests that must not know English only."""

import unicodedata
from typing import NamedTuple


class ScriptText(NamedTuple):
    """Sentences of one script, and a needle: `needle` holds `gold` word for word, `question` asks for it."""

    sentences: tuple[str, ...]
    joiner: str
    """What stands between two sentences."""
    needle: str
    question: str
    gold: str
    wrong: str
    """An answer that shares no word with the gold one."""

    @property
    def text(self) -> str:
        return self.joiner.join(self.sentences)


def _split(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


SCRIPTS: dict[str, ScriptText] = {
    "latin with accents": ScriptText(
        _split("""
            Élodie a vu le garçon près de la forêt.
            Où étaient-ils allés ?
            Señor Núñez cruzó el río con su niña.
            ¡Qué día tan frío!
            Łódź leży nad małą rzeką.
            Příliš žluťoučký kůň pěl ďábelské ódy.
            Straße und Fluß heißen dort gleich.
            Çocuk İstanbul’a ığdır üzümü götürdü.
            Đường phố Huế rất đẹp vào mùa xuân.
        """),
        " ",
        "Le gardien du phare s’appelle Łukasz Żółć.",
        "Comment s’appelle le gardien du phare ?",
        "Łukasz Żółć",
        "Émile Brûlé",
    ),
    "cyrillic": ScriptText(
        _split("""
            Старый мост через реку закрыли весной.
            Кто же открыл его снова?
            Ёлки росли вдоль дороги до самого озера.
            «Ничего не знаю!»
            Мальчик нёс ведро воды и молчал.
            Їжак жив під ґанком усю зиму.
            Книгата лежеше на прозореца.
        """),
        " ",
        "Смотрителя маяка на острове зовут Пётр Ёжиков.",
        "Как зовут смотрителя маяка?",
        "Пётр Ёжиков",
        "Иван Сомов",
    ),
    "greek": ScriptText(
        _split("""
            Το πλοίο έφυγε από το λιμάνι το πρωί.
            Ποιος το είδε;
            Η γιαγιά έψησε ψωμί με ελιές.
            Ἐν ἀρχῇ ἦν ὁ λόγος.
            Τα παιδιά έπαιζαν στην αυλή όλη μέρα!
            Ο δρόμος για το χωριό ήταν κλειστός.
        """),
        " ",
        "Ο φύλακας του νησιού λέγεται Θωμάς Ωρίων.",
        "Πώς λέγεται ο φύλακας του νησιού;",
        "Θωμάς Ωρίων",
        "Ηλίας Ζήσης",
    ),
    "chinese": ScriptText(
        _split("""
            河边的老桥在春天关闭了。
            谁又把它打开了？
            孩子们整天在院子里玩耍。
            “我什么都不知道！”
            他提着一桶水走过田野，没有说话。
            山上的雪三月才化。
            村里的人都说那天晚上看见了光。
            图书馆今年换了新的屋顶。
        """),
        "",
        "灯塔的看守人名叫欧阳沧海。",
        "灯塔的看守人叫什么名字？",
        "欧阳沧海",
        "李明",
    ),
    "japanese": ScriptText(
        _split("""
            川の古い橋は春に閉じられた。
            だれがまた開けたのだろうか？
            子どもたちは一日中、庭で遊んでいた。
            「何も知らない！」
            彼はバケツの水を運びながら黙っていた。
            山の雪は三月まで溶けない。
            図書館の屋根は今年、新しくなった。
        """),
        "",
        "灯台守の名前は霧島ハルカである。",
        "灯台守の名前は何ですか？",
        "霧島ハルカ",
        "山田太郎",
    ),
    "korean": ScriptText(
        _split("""
            강가의 오래된 다리는 봄에 닫혔다.
            누가 다시 열었을까?
            아이들은 하루 종일 마당에서 놀았다.
            “나는 아무것도 모른다!”
            산의 눈은 삼월에야 녹는다.
            도서관은 올해 지붕을 새로 했다.
        """),
        " ",
        "등대지기의 이름은 한바다이다.",
        "등대지기의 이름은 무엇인가?",
        "한바다",
        "김철수",
    ),
    "thai": ScriptText(
        _split("""
            สะพานเก่าริมแม่น้ำปิดในฤดูใบไม้ผลิ
            เด็กๆเล่นในสนามทั้งวัน
            เขาถือถังน้ำเดินผ่านทุ่งนาโดยไม่พูดอะไร
            หิมะบนภูเขาละลายในเดือนมีนาคม
            ห้องสมุดเปลี่ยนหลังคาใหม่ปีนี้
            ใครเปิดมันอีกครั้งหนึ่ง
        """),
        " ",
        "ผู้ดูแลประภาคารชื่อสมศักดิ์ทะเลลึก",
        "ผู้ดูแลประภาคารชื่ออะไร",
        "สมศักดิ์ทะเลลึก",
        "บุญมี",
    ),
    "hindi": ScriptText(
        _split("""
            नदी का पुराना पुल वसंत में बंद हुआ।
            उसे फिर किसने खोला?
            बच्चे सारा दिन आँगन में खेलते रहे।
            उसने कहा, “मुझे कुछ नहीं पता!”
            पहाड़ की बर्फ़ मार्च में पिघलती है।
            पुस्तकालय की छत इस साल नई हुई।
        """),
        " ",
        "द्वीप के रखवाले का नाम त्रिलोक सिंह है।",
        "द्वीप के रखवाले का नाम क्या है?",
        "त्रिलोक सिंह",
        "गोपाल",
    ),
    "arabic": ScriptText(
        _split("""
            أُغلق الجسر القديم في الربيع.
            من فتحه مرة أخرى؟
            لعب الأطفال في الساحة طوال اليوم.
            قال: «لا أعرف شيئًا!»
            يذوب الثلج على الجبل في شهر مارس.
            للمكتبة سقف جديد هذا العام.
        """),
        " ",
        "اسم حارس المنارة هو سليمان البحري.",
        "ما اسم حارس المنارة؟",
        "سليمان البحري",
        "خالد",
    ),
    "urdu": ScriptText(
        _split("""
            دریا کا پرانا پل بہار میں بند ہوا۔
            اسے پھر کس نے کھولا؟
            بچے سارا دن صحن میں کھیلتے رہے۔
            پہاڑ کی برف مارچ میں پگھلتی ہے۔
        """),
        " ",
        "جزیرے کے رکھوالے کا نام قاسم ٹھاکر ہے۔",
        "جزیرے کے رکھوالے کا نام کیا ہے؟",
        "قاسم ٹھاکر",
        "عمران",
    ),
    "hebrew with points": ScriptText(
        _split("""
            הַגֶּשֶׁר הַיָּשָׁן נִסְגַּר בָּאָבִיב.
            מִי פָּתַח אוֹתוֹ שׁוּב?
            הַיְלָדִים שִׂחֲקוּ בֶּחָצֵר כָּל הַיּוֹם.
            הַשֶּׁלֶג נָמֵס בְּחֹדֶשׁ מֶרְץ.
        """),
        " ",
        "שׁוֹמֵר הַמִּגְדַּלּוֹר נִקְרָא צְבִי גַּלִּים.",
        "אֵיךְ נִקְרָא שׁוֹמֵר הַמִּגְדַּלּוֹר?",
        "צְבִי גַּלִּים",
        "דָּוִד",
    ),
    "amharic": ScriptText(
        _split("""
            አሮጌው ድልድይ በፀደይ ተዘጋ።
            ማን እንደገና ከፈተው?
            ልጆቹ ቀኑን ሙሉ ተጫወቱ።
            በረዶው በመጋቢት ይቀልጣል።
        """),
        " ",
        "የመብራት ቤቱ ጠባቂ ስም ተስፋዬ ባሕሩ ነው።",
        "የመብራት ቤቱ ጠባቂ ስም ማን ነው?",
        "ተስፋዬ ባሕሩ",
        "አበበ",
    ),
    "emoji": ScriptText(
        _split("""
            The team 👩🏽‍🚀👨‍👩‍👧‍👦 met at noon. 🎉
            Who brought the 🏴󠁧󠁢󠁷󠁬󠁳󠁿 flag? 🤔
            We sailed 🚣🏾‍♀️ past the lighthouse!
            The cake 🎂 was gone by ten. 😢
            Nobody saw the 🦊 leave.
        """),
        " ",
        "The secret sign is 🧑🏿‍🎤🪄🇳🇴 today.",
        "What is the secret sign?",
        "🧑🏿‍🎤🪄🇳🇴",
        "🐢",
    ),
    "code": ScriptText(
        _split("""
            def area(width, height):
            return width * height  # in square metres
            total = sum(area(w, h) for w, h in rooms)
            if total > LIMIT_M2:
            raise ValueError(f"{total} is above {LIMIT_M2}")
            names = [name.strip() for name in names]
            print("done", file=sys.stderr)
        """),
        "\n",
        'SECRET_KEY = "varrow_7f3a"',
        "What is SECRET_KEY?",
        "varrow_7f3a",
        "quill",
    ),
    "logs": ScriptText(
        _split("""
            2024-03-01T10:00:01Z INFO worker[12] started job=881
            2024-03-01T10:00:07Z WARN disk=/dev/sda1 used=91%
            2024-03-01T10:01:00Z INFO worker[12] finished job=881 in 52.1s
            2024-03-01T10:01:02Z ERROR worker[14] lost peer 10.0.3.77:5432
            2024-03-01T10:01:09Z INFO retry n=3 backoff=250ms
        """),
        "\n",
        "2024-03-01T10:02:00Z INFO pager code=zq-4471 sent",
        "Which code did the pager send?",
        "zq-4471",
        "ab-9",
    ),
}


def numbered(script: str, n_sentences: int) -> tuple[str, ...]:
    """That many sentences of a script, no two alike: each ends in its own number where it first ended."""
    sentences = SCRIPTS[script].sentences
    return tuple(_with_number(sentences[i % len(sentences)], i) for i in range(n_sentences))


def _with_number(sentence: str, number: int) -> str:
    end = len(sentence)
    while end and unicodedata.category(sentence[end - 1])[0] in "PZSC":
        end -= 1
    return f"{sentence[:end]} {number}{sentence[end:]}"
