"""A tiny random model with a tokenizer and a problem that it sometimes solves: the parity of the ids it writes."""

from transformers import PreTrainedTokenizerFast

from interp.models.language.model import LanguageModel
from interp.models.language.sampling import Policy, StopRule
from probes.critical_tokens.explorer import Explorer
from probes.critical_tokens.problems import Problem
from probes.critical_tokens.responses import Setting
from tests.tiny_models import VOCABULARY, tiny

WORDS = {f"w{index}": index for index in range(VOCABULARY)}
STOP = list(range(60, 80))
"""A fifth of the vocabulary ends a response, so responses are short."""


def tokenizer() -> PreTrainedTokenizerFast:
    """One word is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel(WORDS, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, clean_up_tokenization_spaces=False)


def parity(response: str) -> str | None:
    """The parity of the last two words' ids; no answer where a word is w90 or above."""
    ids = [WORDS[word] for word in response.split()]
    return None if not ids or max(ids) >= 90 else str(sum(ids[-2:]) % 2)


PROBLEM = Problem(
    id="parity-1-1-0", level="parity-1-1", prompt="w3 w4 w5 w6", question="w5 w6", solution="", gold="0", extract=parity
)


def small_model() -> LanguageModel:
    """A random llama, the same each time."""
    return tiny("llama", tokenizer=tokenizer())


def small_setting(room: int = 5, **policy: float) -> Setting:
    """Short responses; top_k keeps trees small."""
    return Setting(Policy(**policy), StopRule(STOP), room, seed=1, batch_rows=128)  # type: ignore[arg-type]


def small_explorer(model: LanguageModel, token_ids: list[int], setting: Setting) -> Explorer:
    """The reader of one response to the problem."""
    return Explorer(model, PROBLEM, "parity-1-1-0-0", token_ids, setting)
