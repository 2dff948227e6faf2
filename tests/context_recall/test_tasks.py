"""Tasks in every kind of tokenizer: spans hold what they say, answers are nowhere else, and readers whose answers are known."""

import re

import numpy as np
import pytest

from interp.errors import ArgumentError
from interp.statistics import wilson_interval
from probes.context_recall import natural
from probes.context_recall.checks import check_sample
from probes.context_recall.experiment import ContextRecall
from probes.context_recall.tasks import prose
from probes.context_recall.tasks.catalogue import OWN, task_of
from probes.context_recall.tasks.task import task
from probes.context_recall.words import Words, words_of
from tests.context_recall.oracles import Oracle, answers_of, copying
from tests.context_recall.texts import CORPUS, NEWS, SMALL, draft, samples_of, word_source
from tests.script_texts import SCRIPTS
from tests.script_tokenizers import KINDS as SCRIPT_KINDS
from tests.tiny_tokenizers import KINDS, of_kind


@pytest.fixture(autouse=True)
def few_articles(monkeypatch):
    for place in (prose, natural):
        monkeypatch.setattr(
            place, "news_articles", lambda: tuple(" ".join(NEWS[n : n + 6]) for n in range(0, 36, 3)) * 2
        )


@pytest.fixture
def words(tmp_path):
    return word_source(tmp_path)


def plain(tokenizer, ids):
    return tokenizer.decode(list(ids)).strip().lower().removeprefix("##")  # a word piece inside a word


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OWN)
def test_spans_hold_what_they_say_in_every_kind_of_tokenizer(name, kind, words):
    cell = {**SMALL[name], **({"pairs": 3} if name.startswith("kv") else {})}
    if kind == "word piece, cased" and name.startswith("kv"):
        with pytest.raises(ArgumentError, match="too few different tokens"):
            samples_of(kind, name, words, 2, **cell)
        return
    tokenizer, (sample, again) = samples_of(kind, name, words, 2, **cell)
    assert sample.ids != again.ids or not sample.ids
    for place, question in enumerate(sample.questions):
        check_sample(sample, name)
        values = [sample.ids[slice(*pair.value)] for pair in sample.pairs]
        if question.is_label:
            assert {plain(tokenizer, question.right[0]), plain(tokenizer, question.wrong[0])} == {"a", "b"}
            continue
        assert all(values[number] in question.right for number in question.pairs)
        assert not set(question.right) & set(question.wrong)
        rest = [plain(tokenizer, value) for value in question.wrong]
        assert plain(tokenizer, question.right[0]) not in rest
        if question.overlap == 1 and name in ("mqar", "kv_single", "passkey"):
            key = plain(tokenizer, sample.ids[slice(*sample.pairs[question.pairs[0]].key)])
            assert key in plain(tokenizer, question.ids)
        without = sample.without[place]
        if without is not None:
            assert len(without) == len(sample.ids)
            assert not any(without[slice(*sample.pairs[number].value)] in question.right for number in question.pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_fillers_are_neither_keys_nor_values_and_the_beginning_counts_once(kind, words):
    tokenizer, samples = samples_of(kind, "mqar", words, 3)
    for sample in samples:
        used = {token for pair in sample.pairs for span in (pair.key, pair.value) for token in sample.ids[slice(*span)]}
        asked = sample.questions[0]
        key = sample.ids[slice(*sample.pairs[asked.pairs[0]].key)]
        assert sum(token in used for token in asked.ids) == len(key)
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        assert sum(token in special for token in sample.ids) == sample.lead <= 1


def test_keys_and_values_are_alike_in_frequency():
    words = Words(tuple(f" w{n}" for n in range(400)), "english")
    keys, values = words.halves(np.random.default_rng(0))
    assert not set(keys) & set(values)
    places = {word: n for n, word in enumerate(words.texts)}
    assert abs(np.mean([places[word] for word in keys]) - np.mean([places[word] for word in values])) < 1


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("kind", SCRIPT_KINDS, ids=lambda kind: kind.__name__)
def test_words_of_any_script_are_single_tokens_that_spell_them(kind, script, tmp_path):
    tokenizer = kind()
    path = tmp_path / "words.txt"
    path.write_text(SCRIPTS[script].text, encoding="utf-8")
    listed = {word.lower() for word in SCRIPTS[script].text.split()}
    for source in (str(path), "vocabulary"):
        found = words_of(tokenizer, source)
        assert len(set(found.texts)) == len(found.texts)
        for text in found.texts:
            assert tokenizer.decode(tokenizer(f"a{text}", add_special_tokens=False)["input_ids"]).endswith(text.strip())
            assert source == "vocabulary" or text.strip().lower() in listed


# ---------------------------------------------------------------------- readers whose answers are known


@pytest.mark.parametrize("name", ["mqar", "list_recall", "compositional", "forgetting"])
def test_one_that_copies_behind_the_longest_newest_match_is_always_right(name, words):
    tokenizer, samples = samples_of("byte-level", name, words, 8)
    for rows in answers_of(Oracle(tokenizer, copying()), samples):
        whole = rows[rows["condition"] == "whole"]
        assert (whole["is_right"] == 1).all()
        assert (whole["is_said"] == 1).all()
        assert (whole["rank"] == 1).all()
        without = rows[rows["condition"] == "without the pair"]
        assert (without["is_said"] == 0).all()
        assert (without["logp_nats"].to_numpy() < whole["logp_nats"].iloc[: len(without)].to_numpy() - 5).all()


def test_one_that_matches_one_part_of_a_key_is_at_one_in_side(words):
    tokenizer, samples = samples_of("byte-level", "compositional", words, 60, side=3, asked=1)
    rows = [row for rows in answers_of(Oracle(tokenizer, copying(longest=2)), samples) for row in rows["is_right"][:1]]
    interval = wilson_interval(int(sum(rows)), len(rows), 0.999)
    assert interval.ci_low < 1 / 3 < interval.ci_high


def test_one_that_takes_the_first_match_is_wrong_on_updated_keys_only(words):
    tokenizer, samples = samples_of("byte-level", "forgetting", words, 10)
    for rows in answers_of(Oracle(tokenizer, copying(newest=False)), samples):
        whole = rows[rows["condition"] == "whole"].set_index("kind")
        assert whole.loc["updated", "is_right"] == 0
        assert whole.loc["updated", "first_old_margin_nats"] == pytest.approx(-10)
        assert whole.loc["kept", "is_right"] == 1


@pytest.mark.slow
def test_values_drawn_by_chance_are_right_one_time_in_n(words):
    generator = np.random.default_rng(5)
    tokenizer, samples = samples_of("byte-level", "mqar", words, 100)

    def by_chance(_):
        return dict(enumerate(generator.normal(size=len(tokenizer))))

    rows = [row for rows in answers_of(Oracle(tokenizer, by_chance), samples) for row in rows["is_right"][:1]]
    interval = wilson_interval(int(sum(rows)), len(rows), 0.999)
    assert interval.ci_low < 1 / 4 < interval.ci_high


def test_where_every_value_is_as_likely_none_is_right(words):
    tokenizer, samples = samples_of("byte-level", "mqar", words, 2)
    for rows in answers_of(Oracle(tokenizer, lambda _: {}), samples):
        assert (rows.dropna(subset="rank")["rank"] == 4).all()
        assert not rows["is_first_right"].any()


def test_the_text_of_a_task_is_the_same_at_every_condition_of_order(words):
    tokenizer = of_kind("byte-level", CORPUS)
    known = words_of(tokenizer, words)
    cells = ("excerpt", "none", "shuffled", "other")
    found = [task_of("order").sample(draft(tokenizer, known, 4), {"text": text, "words": 40}) for text in cells]
    assert len({sample.questions[0].ids for sample in found if sample is not found[2]}) == 1
    assert tokenizer.decode(found[1].ids) == ContextRecall().read_frames()["no_excerpt"]  # no sentence of the article
    assert len(found[0].pairs) == 2
    assert len(found[3].pairs) == 0


# ---------------------------------------------------------------------- refusals


@task({"pairs": 2})
def says_its_answer(draft, pairs: int = 2) -> None:
    """A question that gives its answer away."""
    for key, value in zip(draft.keys(pairs), draft.values(pairs), strict=True):
        number = draft.pair("{key}{value}", key, value)
    draft.ask("{value}", [number], words={"value": value})


@task()
def asks_nothing(draft) -> None:
    """No question."""
    draft.pair("{key}{value}", *draft.keys(1), *draft.values(1))


@task()
def begins_alike(draft) -> None:
    """A value that begins another."""
    draft.bind(draft.put(" hammer"), draft.put(" river"))
    number = draft.bind(draft.put(" chapel"), draft.put(" river basket"))
    draft.ask(" chapel", [number])


@task()
def lies_about_its_spans(draft) -> None:
    """A pair whose value is not where it says."""
    from probes.context_recall.draft import Mark

    draft.put(" hammer river chapel basket")
    draft.bind(Mark(" hammer", (0, 1)), Mark(" river", (0, 1)))
    draft.ask(" hammer", [draft.bind(Mark(" chapel", (1, 2)), Mark(" basket", (1, 2)))])


@task()
def lies_about_its_key(draft) -> None:
    """A key that is not where it says, with values that are."""
    from probes.context_recall.draft import Mark

    value = draft.put(" river")
    draft.bind(Mark(" hammer", value.span), value)


@task()
def begins_with_the_same_token(draft) -> None:
    """Two values that differ behind their first token."""
    draft.bind(draft.put(" hammer"), draft.put(" river basket"))
    draft.ask(" chapel", [draft.bind(draft.put(" chapel"), draft.put(" river hammer"))])


@task()
def asks_for_a_pair_that_is_not_there(draft) -> None:
    """A number that draft.pair did not return."""
    draft.pair("{key}{value}", *draft.keys(1), *draft.values(1))
    draft.ask("?", [3])


@task()
def lacks_a_word(draft) -> None:
    """A template with a place that nothing is given for."""
    draft.ask("{place}", [draft.pair("{key}{value}", *draft.keys(1), *draft.values(1))])


not_a_task = 3
HERE = "tests.context_recall.test_tasks"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mqra", "Did you mean mqar"),
        ("mqar(32)", "is no task: write it as mqar"),
        ("mqar(pairz=3)", "has no option pairz. Did you mean pairs"),
        ("no.such.module:name", "give module:name"),
        (f"{HERE}:not_a_task", "is no task: decorate"),
        (f"{HERE}:says_its_answer", "holds its own answer"),
        (f"{HERE}:asks_nothing", "has no question"),
        (f"{HERE}:begins_alike", "begins another value"),
        (f"{HERE}:lies_about_its_spans", "do not hold the"),
        (f"{HERE}:lies_about_its_key", "do not hold the key ' hammer'"),
        (f"{HERE}:begins_with_the_same_token", "begin with the same token"),
        (f"{HERE}:asks_for_a_pair_that_is_not_there", "asks for the pairs"),
        (f"{HERE}:lacks_a_word", "has no word for place"),
        ("mqar(pairs=few)", "takes pairs as 8 is written, not 'few'"),
        ("mqar(pairs=2.5)", "takes pairs as 8 is written, not 2.5"),
        ("mqar(pairs=0)", "takes pairs from 1 on, not 0"),
        ("mqar(gap=-3)", "takes gap from 0 on, not -3"),
        ("mqar(pairs=1)", "write two pairs or more"),
        ("forgetting(pairs=3, updates=5)", "5 of 3 keys cannot get a new value"),
        ("kv_conditional(pairs=3, matching=3)", "for 3 of 3 keys asks nothing"),
        ("thread(direction=sideways)", "There is no direction 'sideways'"),
        ("variables(direction=sideways)", "There is no direction 'sideways'"),
        ("thread(pairs=7, hops=1)", "an even number"),
        ("passkey(form=synonym, needles=99, tokens=2000)", "words with synonyms"),
        ("mqar(pairs=400)", "lower the task's size, or name --words vocabulary"),
        ("thread(hops=5)", "lower hops, raise pairs"),
        ("passkey(tokens=20)", "do not fit into 20 tokens"),
        ("kv_single(pairs=60)", "too few different tokens"),
        ("passkey(form=antonym)", "There is no form 'antonym'"),
    ],
)
def test_tasks_that_cannot_be_meant_are_refused(name, said, words):
    tokenizer = of_kind("byte-level", CORPUS)

    def sampled():
        one = task_of(name)
        one.sample(draft(tokenizer, words_of(tokenizer, words)), one.cells[0])

    with pytest.raises(ArgumentError, match=re.escape(said)):
        sampled()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(tasks=("mqra",)), "Did you mean mqar"),
        (dict(tasks=()), "needs at least one"),
        (dict(lengths=(10,)), "at least 64"),
        (dict(samples=1), "at least 2"),
        (dict(effective_at=0.0), "above 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        ContextRecall(**options)


@pytest.mark.parametrize(
    ("content", "said"),
    [("lead = 3", "lacks lead"), ("lead =", "is not a TOML"), ('lead = "a"\npair = "{key}"', "needs the places")],
)
def test_frames_that_lack_something_are_refused(content, said, tmp_path):
    path = tmp_path / "frames.toml"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=said):
        ContextRecall(frames=path).read_frames()
    with pytest.raises(ArgumentError, match="There is no file"):
        ContextRecall(frames=tmp_path / "none.toml").read_frames()
    with pytest.raises(ArgumentError, match="There is no file"):
        words_of(of_kind("byte-level", CORPUS), str(tmp_path / "none.txt"))
    path.write_text("# none")
    with pytest.raises(ArgumentError, match="holds no word"):
        words_of(of_kind("byte-level", CORPUS), str(path))
