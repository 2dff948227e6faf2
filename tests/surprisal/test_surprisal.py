"""Surprisal of words: against minicons, against one plain forward pass, by hand; files and texts that cannot be meant are refused."""

import json
import math
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError
from interp.models import load
from interp.statistics import mean_estimate
from probes.surprisal.experiment import Surprisal
from probes.surprisal.measure import surprisal
from probes.surprisal.summaries import summarise
from tests.tiny_models import tiny
from tests.tiny_tokenizers import byte_level

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
        begins = float(log_p[0, blanks].logsumexp(0)) if word_index else 0.0
        ends = float(log_p[len(own), blanks].logsumexp(0))
        assert nats["raw"] == pytest.approx(raw, abs=1e-4)
        assert nats["boundary"] == pytest.approx(begins + raw - ends, abs=1e-4)
        assert nats["exact"] <= nats["boundary"] + 1e-5  # more spellings, more probability
        assert rows["rank"].iloc[0] == int((log_p[0] > log_p[0, own[0]]).sum()) + 1
        assert rows["entropy_nats"].iloc[0] == pytest.approx(float(-(log_p[0].exp() * log_p[0]).sum()), abs=1e-4)


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


@pytest.mark.parametrize("text", ["我喜欢猫", "one ภาษา two", "かな"])
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
    assert (means["mean_nats"], means["ci_low"], means["ci_high"], means["n"]) == tuple(estimate)
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
