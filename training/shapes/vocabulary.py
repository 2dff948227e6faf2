"""The tokenizers of the scenes: CLIP's kind and T5's, with a vocabulary of their own, so that it is known which names have several
tokens. Both split every word alike.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from string import ascii_letters, ascii_lowercase, digits

from transformers import CLIPTokenizer, T5Tokenizer

from probes.t2i_flow.scenes import ARTICLES, COLOURS, CONTEXTS, JOINERS, SENSES, SHAPES

CONTEXT_TOKENS = 24
BOS, EOS, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
PUNCTUATION = ",.!?'-"
SEVERAL_TOKENS = {
    "triangle": ("tri", "ang", "le"),
    "diamond": ("dia", "mond"),
    "magenta": ("mag", "enta"),
    "cyan": ("cy", "an"),
}
"""Words of more than one token; every other word is one, and "plus sign" is two words."""
_END = "</w>"
_SPACE = "▁"


def words() -> list[str]:
    """Returns every word a caption can have, punctuation left out."""
    nouns = [word for shape in (*SHAPES, *SENSES) for word in shape.split()]
    return sorted({*nouns, *COLOURS, *CONTEXTS, *ARTICLES, *JOINERS, "in"})


def pieces(word: str) -> tuple[str, ...]:
    """Returns the tokens of a word, as CLIP's tokenizer writes them."""
    parts = SEVERAL_TOKENS.get(word, (word,))
    return (*parts[:-1], parts[-1] + _END)


def t5_pieces(word: str) -> tuple[str, ...]:
    """Returns the tokens of a word, as T5's tokenizer writes them."""
    first, *others = SEVERAL_TOKENS.get(word, (word,))
    return (_SPACE + first, *others)


def build_tokenizer(regime: str) -> CLIPTokenizer | T5Tokenizer:
    """Returns the tokenizer of a regime. Any text can be written with it, letter by letter where it knows no more."""
    return build_t5_tokenizer() if regime == "bidirectional" else build_clip_tokenizer()


def build_t5_tokenizer() -> T5Tokenizer:
    """Returns T5's kind of tokenizer: a word's space is its first character, an end and no beginning, case kept."""
    letters = [_SPACE, *ascii_letters, *digits, *PUNCTUATION]
    known = dict.fromkeys(piece for word in [*words(), *PUNCTUATION] for piece in t5_pieces(word))
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    scored = [*special, *((letter, -9.0) for letter in letters), *((piece, -3.0) for piece in known)]
    tokenizer = T5Tokenizer(vocab=scored, extra_ids=0, model_max_length=CONTEXT_TOKENS)
    _check(tokenizer, t5_pieces)
    return tokenizer


def build_clip_tokenizer() -> CLIPTokenizer:
    """Returns CLIP's kind of tokenizer: lower case, a word's end is part of its last token, a beginning and an end."""
    letters = [*ascii_lowercase, *digits, *PUNCTUATION]
    symbols = [*letters, *(letter + _END for letter in letters)]
    merges = _merges(words())
    vocabulary = [*symbols, *("".join(pair) for pair in merges), BOS, EOS, PAD]
    ids = {token: id for id, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = CLIPTokenizer(
        vocab=ids,
        merges=merges,  # type: ignore[arg-type]
        unk_token=EOS,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT_TOKENS,
    )
    _check(tokenizer, pieces)
    return tokenizer


def _check(tokenizer: CLIPTokenizer | T5Tokenizer, wanted: Callable[[str], tuple[str, ...]]) -> None:
    for word in words():
        found = tuple(tokenizer.tokenize(word))
        if found != wanted(word):
            raise AssertionError(f"{word} is written {found} and not {wanted(word)}")


def _merges(known: Sequence[str]) -> list[tuple[str, str]]:
    """Returns merges that spell every word by its pieces: what a word still lacks is added behind what is there already.

    Words are spelt with the merges of those before them, which do not always join letters from the left.
    """
    merges: list[tuple[str, str]] = []
    for word in known:
        while (tokens := _spell(word, merges)) != list(pieces(word)):
            merges.append(_missing(tokens, pieces(word)))
    return merges


def _spell(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding of one word."""
    rank = {pair: place for place, pair in enumerate(merges)}
    tokens = [*word[:-1], word[-1] + _END]
    while True:
        found = [(rank[pair], at) for at, pair in enumerate(pairwise(tokens)) if pair in rank]
        if not found:
            return tokens
        at = min(found)[1]
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]


def _missing(tokens: Sequence[str], wanted: Sequence[str]) -> tuple[str, str]:
    """Returns the first two neighbours that stand in the same piece."""
    left = list(tokens)
    for piece in wanted:
        inside = []
        while "".join(inside) != piece:
            inside.append(left.pop(0))
            if not piece.startswith("".join(inside)):
                raise AssertionError(f"{tokens} cannot be joined to {wanted}: choose other pieces")
        if len(inside) > 1:
            return inside[0], inside[1]
    raise AssertionError(f"{tokens} are {wanted} already")
