"""A tokenizer for tiny models, the same on every machine: bytes, and the beginnings of common words as tokens of their own."""

from collections import Counter
from functools import cache
from itertools import chain

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.census.shrink import VOCABULARY
from interp.stimuli.prose import news_articles
from probes.context_recall.words import OWN_WORDS

SPECIAL = ("<unk>", "<s>", "</s>")
"""With the ids that tiny configurations give them."""
N_OWN = 40
"""Words of context_recall's list that are one token each, so that its tasks have keys and values."""
N_ARTICLES = 40


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Returns a byte-level tokenizer that spells every text, with as many tokens as the tiny models have.

    Every merge begins at a word's start, so a word is its longest known beginning, and bytes after that.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: id for id, token in enumerate((*SPECIAL, *alphabet))}
    merges: list[tuple[str, str]] = []
    for word in _words():
        spelled = f"Ġ{word}"
        new = [(spelled[:end], spelled[end]) for end in range(1, len(spelled)) if spelled[: end + 1] not in vocabulary]
        if len(vocabulary) + len(new) > VOCABULARY:
            break
        merges += new
        vocabulary |= {a + b: len(vocabulary) + place for place, (a, b) in enumerate(new)}
    built = Tokenizer(models.BPE(vocabulary, merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    special = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=built, clean_up_tokenization_spaces=False, **special)


def _words() -> list[str]:
    """Words of Latin letters, those that must be there first, the others from the most frequent on."""
    own = [
        word for line in OWN_WORDS.read_text(encoding="utf-8").splitlines() if line[:1] != "#" for word in line.split()
    ]
    counted = Counter(chain.from_iterable(article.split() for article in news_articles()[:N_ARTICLES]))
    plain = {word: n for word, n in counted.items() if word.isascii() and word.isalpha()}
    return [*own[:N_OWN], *sorted(plain, key=lambda word: (-plain[word], word))]
