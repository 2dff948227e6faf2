"""Surprisal of words: against minicons, against one plain forward pass, by hand; files and texts that cannot be meant are refused."""

import json
import math
import re
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest
import torch
from jaxtyping import config

from interp.errors import ArgumentError
from interp.models import load
from interp.models.language.word_tokens import Vocabulary
from interp.models.tokens.encoding import beginning
from interp.statistics import mean_estimate
from probes.surprisal import measure
from probes.surprisal.experiment import Surprisal
from probes.surprisal.measure import surprisal
from probes.surprisal.settings import Text
from probes.surprisal.summaries import summarise
from probes.surprisal.words import encode_words
from tests.script_texts import SCRIPTS
from tests.tiny_models import tiny
from tests.tiny_tokenizers import KINDS, byte_level, of_kind

TEXTS = (
    "The keys to the cabinet are on the table.",
    "Hello",
    "“Quoted,” she said — twice …",
    "3,141 = π?  Two\tblanks.",
)


@pytest.fixture(scope="module")
def model():
    return load("smollm2-135m")


@pytest.mark.real
@pytest.mark.slow
def test_words_have_the_surprisal_that_minicons_gives(model) -> None:
    theirs = pd.read_csv(Path(__file__).with_name("minicons_words.csv"), keep_default_na=False)
    texts = theirs.groupby("sentence")["word"].apply(" ".join).tolist()
    ours = surprisal(model, texts, modes=("raw",), bos="always")
    assert ours["word"].tolist() == theirs["word"].tolist()
    assert len(texts) == 200
    gaps = (ours["surprisal_nats"] - theirs["surprisal_nats"]).abs()
    assert (gaps < 1e-4).mean() > 0.99
    assert gaps.max() < 3e-4  # both are float32, and a word adds up the roundings of its tokens


@pytest.mark.real
def test_modes_entropy_and_rank_are_those_of_one_plain_forward_pass(model) -> None:
    found = surprisal(model, TEXTS, modes=("raw", "boundary", "exact"), bos="always")
    texts = {str(number): text for number, text in enumerate(TEXTS)}
    blanks = torch.tensor(
        [model.tokenizer.decode([id])[:1].isspace() or id in model.tokenizer.all_special_ids for id in range(49152)]
    )
    for (text_id, word_index), rows in found.groupby(["text_id", "word_index"]):
        nats = rows.set_index("mode")["surprisal_nats"]
        words = (
            found[found["text_id"] == text_id]
            .drop_duplicates("word_index")
            .sort_values("word_index")["token_ids"]
            .tolist()
        )
        assert list(chain.from_iterable(words)) == model.tokenizer(texts[str(text_id)].strip())["input_ids"]
        before, own = list(chain.from_iterable(words[: int(word_index)])), words[int(word_index)]
        with torch.no_grad():
            logits = model.hf(input_ids=torch.tensor([[model.tokenizer.bos_token_id, *before, *own]])).logits[0]
        log_p = logits.double().log_softmax(-1)[len(before) :]
        raw = -sum(float(log_p[place, token]) for place, token in enumerate(own))
        begins = float(log_p[0, blanks].logsumexp(0)) if word_index and blanks[own[0]] else 0.0
        closes = model.tokenizer.decode(own[-1:])[-1:].isspace()  # ":\n" holds the blank behind the word
        ends = 0.0 if closes else float(log_p[len(own), blanks].logsumexp(0))
        assert nats["raw"] == pytest.approx(raw, abs=1e-4)
        assert nats["boundary"] == pytest.approx(begins + raw - ends, abs=1e-4)
        assert math.isnan(nats["exact"]) if closes else nats["exact"] <= nats["boundary"] + 1e-5  # more spellings
        assert rows["rank"].iloc[0] == int((log_p[0] > log_p[0, own[0]]).sum()) + 1
        assert rows["entropy_nats"].iloc[0] == pytest.approx(float(-(log_p[0].exp() * log_p[0]).sum()), abs=1e-4)


def test_a_long_text_is_read_in_pieces_with_the_same_numbers(monkeypatch) -> None:
    model = tiny("llama", tokenizer=byte_level(), vocab_size=300)
    texts = ["the cat and hat, and " * 12 + "end.", "the cat"]
    whole = surprisal(model, texts, modes=("raw", "boundary", "exact"), bos="always")
    monkeypatch.setattr(measure, "LOGITS_AT_ONCE", 300 * 9)  # nine tokens
    pieces = surprisal(model, texts, modes=("raw", "boundary", "exact"), bos="always")
    pd.testing.assert_frame_equal(whole, pieces, rtol=1e-4)


def test_a_token_that_takes_the_blank_behind_a_word_ends_it_and_the_next_has_none_to_begin_with() -> None:
    text = SCRIPTS["code"].text.strip()
    tokenizer = of_kind("byte fallback, normalizer", tuple(one.text for one in SCRIPTS.values()))
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer))
    words = encode_words(tokenizer, Text("a", text))
    closing = [index for index, word in enumerate(words) if word.closes]
    assert closing
    ids = [tokenizer.bos_token_id, *chain.from_iterable(word.ids for word in words)]
    with torch.no_grad():
        log_p = model.hf(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    boundary = Vocabulary.of(model, "", lambda token: not token[:1].isspace()).boundary
    nats = surprisal(model, [text], bos="always", modes=("raw", "boundary")).pivot(
        index="word_index", columns="mode", values="surprisal_nats"
    )
    for index in closing:
        first = sum(len(word.ids) for word in words[:index])
        last = first + len(words[index].ids)
        begins = float(log_p[first, boundary].logsumexp(0)) if boundary[words[index].ids[0]] and index else 0.0
        assert nats["boundary"][index] == pytest.approx(nats["raw"][index] + begins, abs=1e-3)
        if not boundary[words[index + 1].ids[0]]:
            ends = float(log_p[last + len(words[index + 1].ids), boundary].logsumexp(0))
            ends = 0.0 if words[index + 1].closes else ends
            assert nats["boundary"][index + 1] == pytest.approx(nats["raw"][index + 1] - ends, abs=1e-3)


@pytest.mark.parametrize("text", ["the\u00a0cat and\u202fthe cat", "a\u2028cat", "the cat\u2003and"])
def test_corrections_between_two_words_cancel_behind_a_blank_of_several_tokens_too(text: str) -> None:
    """What a word is multiplied by for its end, the next one is divided by: the sum is that of the tokens and of the last end."""
    tokenizer = byte_level()
    model = tiny("llama", tokenizer=tokenizer, vocab_size=300)
    found = surprisal(model, [text], bos="always", modes=("raw", "boundary", "exact"))
    assert found.drop_duplicates("word_index")["word"].tolist() == text.split()
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        log_p = model.hf(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    of_tokens = -sum(float(log_p[place, token]) for place, token in enumerate(ids[1:]))
    boundary = Vocabulary.of(model, "", lambda token: not token[:1].isspace()).boundary
    nats = found.pivot(index="word_index", columns="mode", values="surprisal_nats")
    assert nats["raw"].sum() == pytest.approx(of_tokens, abs=1e-3)
    assert nats["boundary"].sum() == pytest.approx(of_tokens - float(log_p[-1, boundary].logsumexp(0)), abs=1e-3)
    assert nats["exact"].isna().any()  # the end of the word before such a blank cannot be told
    assert not nats["exact"].isna().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_any_script_are_the_tokens_that_the_tokenizer_writes_or_refused(kind: str, script: str) -> None:
    tokenizer, text = of_kind(kind, tuple(one.text for one in SCRIPTS.values())), SCRIPTS[script].text.strip()
    said, words = "", ()
    try:
        words = encode_words(tokenizer, Text("a", text))
    except ArgumentError as refusal:
        said = str(refusal)
    if said:
        assert re.match(r"(Text a is written without|The tokenizer (cannot spell|joins))", said)
        return
    assert [word.word for word in words] == text.split()
    assert (
        list(chain.from_iterable(word.ids for word in words)) == tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    assert [word.follows for word in words] == [False, *[True] * (len(words) - 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_a_text_sum_to_the_text_and_its_last_end_under_any_tokenizer(kind: str) -> None:
    """One plain forward pass over all tokens; between two words what is multiplied by is divided by, also behind lines and indents."""
    corpus = tuple(one.text for one in SCRIPTS.values())
    tokenizer = of_kind(kind, corpus)
    model = tiny("llama", tokenizer=tokenizer, vocab_size=len(tokenizer))
    boundary = Vocabulary.of(model, "", lambda token: not token[:1].isspace()).boundary
    texts = [SCRIPTS[script].text[:90].strip() for script in ("latin with accents", "cyrillic", "arabic", "code")]
    texts += [
        "if x:\n\treturn y\n\n\t\tpass\nend of it",
        "def f(x):\n    return x  # two  blanks\n\n\tx = 3.5:\n        f(x)",
        "Il a dit\u00a0: «\u202foui\u202f» puis\u2003non.\u2028Et puis",
    ]
    lead = beginning(tokenizer, "auto")
    n_read = 0
    for text in texts:
        try:
            words = encode_words(tokenizer, Text("a", text))
        except ArgumentError:  # one that it cannot spell, or joins with another one
            continue
        found = surprisal(model, [text])
        first = len(lead) or len(words[0].ids)
        ids = [*lead, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            log_p = model.hf(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        end = log_p[:, boundary].logsumexp(-1)
        whole = -sum(float(log_p[place - 1, ids[place]]) for place in range(first, len(ids)))
        nats = found.groupby("mode")["surprisal_nats"].sum()
        opening = 0.0 if lead else float(end[first - 1])
        assert nats["raw"] == pytest.approx(whole, abs=2e-3)
        assert nats["boundary"] == pytest.approx(whole + opening - float(end[-1]), abs=2e-3), text
        n_read += 1
    assert n_read >= 3


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba"])
def test_a_batch_gives_what_each_text_gives_alone_in_recurrent_models_too(name: str) -> None:
    tokenizer = byte_level()
    model = tiny(name, tokenizer=tokenizer, vocab_size=300)
    texts = ["one two three four", "five", "six seven, eight."]
    together = surprisal(model, texts, modes=("raw", "boundary"))
    alone = pd.concat([surprisal(model, [text]) for text in texts], ignore_index=True)
    pd.testing.assert_series_equal(together["surprisal_nats"], alone["surprisal_nats"], rtol=1e-3)
    assert together["word"].tolist() == alone["word"].tolist()


@pytest.mark.real
def test_a_prefix_is_read_and_not_scored(model) -> None:
    whole = surprisal(model, ["I know. The keys are here."], modes=("raw",))
    behind = surprisal(model, ["The keys are here."], prefix="I know.", modes=("raw",))
    assert behind["word"].tolist() == ["The", "keys", "are", "here."]
    assert behind["word_index"].tolist() == [0, 1, 2, 3]
    assert behind["surprisal_nats"].tolist() == pytest.approx(whole["surprisal_nats"].tolist()[2:], abs=1e-4)


@pytest.mark.parametrize(
    ("texts", "settings", "said"),
    [
        ("the cat", {}, r"give \[text\]"),
        (["the \ud800"], {}, r"Text 0 holds U\+D800"),
        (["the\x00cat"], {}, r"Text 0 holds U\+0000"),
        (["the cat"], {"prefix": "\ud800"}, r"The prefix holds U\+D800"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, settings, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        surprisal(tiny("llama", tokenizer=byte_level(), vocab_size=300), texts, **settings)


@pytest.mark.parametrize(
    ("texts", "settings", "said"),
    [
        ([b"the cat"], {}, "Text 0 is bytes"),
        (["the cat", None], {}, "Text 1 is NoneType"),
        (["the cat"], {"bos": "alwasy"}, "Did you mean always"),
        (["the cat"], {"modes": ("rwa",)}, "Did you mean raw"),
        (["the cat"], {"modes": "raw"}, "takes several values"),
    ],
)
def test_what_types_rule_out_is_refused_where_no_one_checks_them(texts, settings, said: str, monkeypatch) -> None:
    monkeypatch.setattr(config, "jaxtyping_disable", True)  # as in a notebook
    with pytest.raises(ArgumentError, match=said):
        surprisal(tiny("llama", tokenizer=byte_level(), vocab_size=300), texts, **settings)
    with pytest.raises(ArgumentError, match='choose "auto", "always" or "never"'):
        beginning(byte_level(), "alwasy")  # type: ignore[arg-type]


def test_a_text_is_read_alike_however_its_accents_and_line_breaks_are_spelled() -> None:
    model = tiny("llama", tokenizer=byte_level(), vocab_size=300)
    spellings = ["\ufeffcaf\u00e9\nthe cat", "cafe\u0301\r\nthe cat", "cafe\u0301\rthe \ufeffcat"]
    one, *others = (surprisal(model, [text], bos="always") for text in spellings)
    for other in others:
        pd.testing.assert_frame_equal(one, other)


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_every_format_gives_the_same_texts(tmp_path: Path) -> None:
    rows = [("a", "One two.", "Before"), ("b", 'Say "three"', "")]
    files = [
        write(tmp_path, "t.csv", 'id,text,prefix\na,One two.,Before\n\nb,"Say ""three""",\n'),
        write(tmp_path, "t.tsv", 'text\tprefix\tid\nOne two.\tBefore\ta\nSay "three"\t\tb\n'),
        write(
            tmp_path,
            "t.jsonl",
            "\n".join(json.dumps(dict(zip(("id", "text", "prefix"), row, strict=True))) for row in rows) + "\n\n",
        ),
        write(tmp_path, "bom.csv", '\ufeffid,text,prefix\r\na,One two.,Before\r\nb,"Say ""three""",\r\n'),
    ]
    for path in files:
        assert [(text.id, text.text, text.prefix) for text in Surprisal(texts=path).read_texts()] == rows, path
    lines = Surprisal(texts=write(tmp_path, "t.txt", "One two.\n\n  \nThree\n"), prefix=" P ").read_texts()
    assert [(text.id, text.text, text.prefix) for text in lines] == [("000", "One two.", "P"), ("003", "Three", "P")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "id,txt\n1,One", "no column text in row 1. Did you mean txt"),
        ("t.csv", "id,text\n1,One,two", "another length than its header"),
        ("t.csv", "id,text\n1", "another length than its header"),
        ("t.csv", "id,text\n1,One\n1,Two", "two texts called 1"),
        ("t.csv", "", "holds no text"),
        ("t.txt", "\n \n", "holds no text"),
        ("t.jsonl", '{"text": 1\n', "line 1, is not a JSON object"),
        ("t.jsonl", "[1]\n", "line 1, is not a JSON object"),
        ("t.jsonl", '{"words": "One"}\n', "no column text"),
        ("t.doc", "One", "is not one of .txt"),
        ("t.txt", "One\0two", "is not text"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(ArgumentError, match=said):
        Surprisal(texts=path).read_texts()
    with pytest.raises(ArgumentError, match="There is no file"):
        Surprisal(texts=tmp_path / "nowhere.csv").read_texts()


@pytest.mark.parametrize(
    "text", ["我喜欢猫", "one ภาษา two", "かな", "ꦲꦏ꧀ꦱꦫ", "ᬅᬓ᭄ᬱᬭ", "ᨲᩫ᩠ᩅ", "ᦎᦷᦑ", "ꩡ", "ꪁꪫ", "ㄅㄆ", "〇", "⽔", "𛀂"]
)
def test_a_script_without_spaces_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="without spaces between words"):
        surprisal(tiny("llama", tokenizer=byte_level(), vocab_size=300), [text])


@pytest.mark.parametrize("settings", [{"modes": ()}, {"exact_threshold": 0.0}, {"exact_threshold": 1.0}])
def test_settings_that_cannot_be_meant_are_refused(settings) -> None:
    with pytest.raises(ArgumentError):
        Surprisal(**settings)


def test_summaries_are_those_of_the_words_that_were_scored() -> None:
    names = {
        "model": "m",
        "token_ids": [[1]] * 5,
        "entropy_nats": 1.0,
        "rank": 1,
        "mode": "raw",
        "left_out_share": math.nan,
    }
    words = pd.DataFrame(
        {**names, "text_id": ["a", "a", "a", "b", "b"], "word_index": [0, 1, 2, 0, 1], "word": list("vwxyz"),
         "surprisal_nats": [math.nan, 2.0, 4.0, math.nan, 9.0]}
    )  # fmt: skip
    tables = summarise(words, seed=0)
    assert tables["texts"][["n_words", "sum_nats", "mean_nats"]].to_numpy().tolist() == [[2, 6, 3], [1, 9, 9]]
    means = tables["means"].iloc[0]
    estimate = mean_estimate([2.0, 4.0, 9.0], ["a", "a", "b"], seed=0)
    assert (means["mean_nats"], means["ci_high"], means["n"]) == (estimate.value, estimate.ci_high, estimate.n)
    assert means["ci_low"] == 0  # two texts: Student's interval begins at -34 nats, which no surprisal is
    assert means["n_words"] == 3
    places = tables["places"].set_index("word_index")
    assert places["mean_nats"].to_dict() == {1: 5.5, 2: 4.0}
    assert math.isnan(places.loc[2, "ci_low"])  # one text has no interval


@pytest.mark.real
def test_a_run_leaves_tables_figures_and_sentences(tmp_path: Path) -> None:
    texts = write(tmp_path, "t.txt", "\n".join(f"The cat number {n} sat on the mat." for n in range(6)))
    run = Surprisal(texts=texts, modes=("raw",)).run(out=tmp_path)
    assert set(run.tables) == {"words", "texts", "means", "places"}
    assert set(run.figures) == {"words", "places"}
    kinds = [finding.kind for finding in run.findings]
    assert kinds == ["result", "warning"]
    assert "6 first words have no surprisal" in run.findings[1].text
