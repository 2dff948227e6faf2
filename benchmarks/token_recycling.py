"""Does Token Recycling make greedy decoding faster here? `python -m benchmarks.token_recycling [--model NAME] [--texts N]`.

Each text is generated three times: one token per pass, with a chain of drafts, and with the tree of 80 drafts. All three must be equal.
Times are processor seconds and include reading the prompt.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from benchmarks.stopwatch import one_thread, say
from interp.models import load
from interp.models.language.model import LanguageModel
from probes.prediction_depth.materials import read_ids
from probes.prediction_depth.recycling import WIDTH, draft_tree, write_plain, write_recycled
from probes.prediction_depth.settings import PROMPT_TOKENS, Settings

NODES = sorted(draft_tree(), key=lambda path: (len(path), path))
Written = tuple[list[int], int]
"""Tokens, and passes of the model behind the prompt's."""


@torch.inference_mode()
def write_with_tree(model: LanguageModel, prompt: Sequence[int], n_tokens: int) -> Written:
    """Returns the greedy continuation and the number of passes: each reads the last token and a tree of candidates behind it."""
    cache, matrix = DynamicCache(config=model.hf.config), {}
    logits = model.hf(input_ids=torch.tensor([list(prompt)]), past_key_values=cache, use_cache=True).logits[0]
    _learn(matrix, prompt, logits)
    written, n_passes = [int(logits[-1].argmax())], 0
    while len(written) < n_tokens:
        ids, parents, depths = _tree(matrix, written[-1])
        before = cache.get_seq_length()
        logits = model.hf(
            input_ids=torch.tensor([ids]), position_ids=before + torch.tensor([depths]), past_key_values=cache,
            attention_mask=_mask(parents, before), use_cache=True,
        ).logits[0]  # fmt: skip
        _learn(matrix, ids, logits)
        best, path, node = logits.argmax(dim=-1).tolist(), [0], 0
        while (node := _child(ids, parents, node, best[node])) is not None:
            path.append(node)
        written += [best[node] for node in path]
        _keep(cache, before, path)
        n_passes += 1
    return written[:n_tokens], n_passes


def _learn(matrix: dict[int, list[int]], ids: Sequence[int], logits: torch.Tensor) -> None:
    matrix.update(zip(ids, logits.topk(WIDTH, dim=-1).indices.tolist(), strict=True))


def _tree(matrix: dict[int, list[int]], token: int) -> tuple[list[int], list[int], list[int]]:
    """Tokens of the tree, the place of each one's parent (its own for the root), and depths."""
    ids, parents, depths, place = [token], [0], [0], {(): 0}
    for path in NODES:
        above = place.get(path[:-1])
        if above is not None and (row := matrix.get(ids[above])):
            place[path] = len(ids)
            ids.append(row[path[-1]])
            parents.append(above)
            depths.append(len(path))
    return ids, parents, depths


def _mask(parents: Sequence[int], before: int) -> torch.Tensor:
    """What each node sees: all that is written, its ancestors and itself."""
    sees = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        sees[node] |= sees[parent]
    whole = torch.cat([torch.ones(len(parents), before, dtype=torch.bool), sees], dim=1)
    return torch.zeros(whole.shape).masked_fill(~whole, torch.finfo(torch.float32).min)[None, None]


def _child(ids: Sequence[int], parents: Sequence[int], node: int, token: int) -> int | None:
    return next((n for n in range(node + 1, len(ids)) if parents[n] == node and ids[n] == token), None)


def _keep(cache: Any, before: int, path: Sequence[int]) -> None:
    """Leaves only what is accepted in the cache."""
    kept = torch.tensor([*range(before), *(before + node for node in path)])
    for layer in cache.layers:
        layer.keys, layer.values = (one.index_select(2, kept) for one in (layer.keys, layer.values))


def main() -> None:
    """Prints seconds, passes and equality for every text and way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.token_recycling", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--texts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=200)
    chosen = parser.parse_args()
    one_thread()
    model = load(chosen.model, dtype="float32")
    ways: dict[str, Callable[..., Written]] = {
        "one token a pass": lambda *given: (write_plain(*given), chosen.tokens - 1),
        "chain of drafts": write_recycled,
        "tree of drafts": write_with_tree,
    }
    for number in range(chosen.texts):
        prompt = read_ids(Settings(), model, number, PROMPT_TOKENS)
        first: list[int] | None = None
        for name, way in ways.items():
            started = time.process_time()
            tokens, passes = way(model, prompt, chosen.tokens)
            seconds = time.process_time() - started
            first = first or tokens
            say(f"text {number}, {name}: {seconds:.1f} s, {passes} passes, equal: {tokens == first}")


if __name__ == "__main__":
    main()
