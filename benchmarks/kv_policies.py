"""What simulating many policies in one pass saves: `python -m benchmarks kv_policies`.

Three ways compute the surprisal of what follows a prompt under six policies that keep a share of its keys:
  rows      this toolkit: the prompt is read once, what follows it once for all policies and budgets, which are rows of a batch;
  script    transformers used well: the prompt is read once, the kept keys of all policies of one budget are the cache of a batch,
            and what follows is read in one forward pass;
  obvious   one run of generation for each policy and budget: the prompt is read, its cache is cut, tokens are decoded one by one.
A fourth row is the toolkit with all that a run stores (losses by head, kept tokens and classes), which no script computes.
The table of policies has each alone: its seconds over those of one forward pass over prompt and continuation, and over those of one
run of generation with the full cache, both by transformers; then all of them as rows of one batch, and what that is for each.
Policies that choose keys anew for every step, or keep different numbers of keys in different heads, have no script: a cut cache
cannot do that. Then more and more conditions of one prompt are read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, normalize, pad
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.stopwatch import measure, say
from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.language.model import LanguageModel
from interp.models.loading.converted import converted_asset
from interp.models.loading.language import load
from interp.retention.simulate import PolicyEdit, read_prompt
from probes.kv_policies.materials import Text, build_text
from probes.kv_policies.measure import measure_text, setting_of, token_losses
from probes.kv_policies.plan import Condition, TextUnit
from probes.kv_policies.settings import DEFAULT, Settings

NAME, MODEL = "kv_policies", "smollm2-135m"
CUT = ("streaming", "knorm", "keydiff", "tova", "h2o_mean", "snapkv")
"""Policies of the toolkit that a cut cache can follow: as many keys in every head, dropped at the prompt's end."""
TOLERANCE = 1e-3
"""Nats: batches of another size round differently."""
WINDOW, KERNEL = 16, 5
"""SnapKV's, as the toolkit has them."""

Nats = dict[Condition, list[float]]


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    settings: Settings
    policies: tuple[str, ...]
    """Of the table."""
    repetitions: int
    conditions: tuple[int, ...]
    """For growth."""


FULL = Sizes(Settings(prompt_tokens=256, budgets=(0.1, 0.25), list_words=5), ("full", *DEFAULT), 2, (1, 4, 16, 48))
QUICK = Sizes(Settings(prompt_tokens=240, budgets=(0.1,), list_words=3), ("full", "knorm", "quest"), 1, (1, 3))


def run(sizes: Sizes) -> Results:
    """Returns the seconds of all ways, the cost of each policy, and growth by conditions."""
    model = load(MODEL)
    script: Any = AutoModelForCausalLM.from_pretrained(
        converted_asset(MODEL), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    text = build_text(sizes.settings, model, "lists", 0, "context_only")
    simulated(model, sizes.settings, text, conditions(sizes.settings, ("knorm",)))  # warm up
    with torch.inference_mode():
        script(torch.tensor([text.prompt]))
    comparison = ways(model, script, sizes, text)
    table = policy_costs(model, script, sizes, text)
    return results(comparison, growth(model, sizes, text), policies=table)


def conditions(settings: Settings, policies: Sequence[str]) -> list[Condition]:
    """Every policy at every budget, with the default protection; duo and razor spare the first key-value head of each third layer."""
    heads = tuple((layer, 0) for layer in range(0, 30, 3))
    return [
        Condition(policy, settings.protections[0], budget, heads if policy in ("duo", "razor") else ())
        for policy, budget in product(policies, settings.budgets)
    ]


def simulated(model: LanguageModel, settings: Settings, text: Text, asked: Sequence[Condition]) -> Nats:
    """The toolkit's surprisals: one reading of the prompt, and one of what follows for all conditions."""
    built = [setting_of(settings, condition) for condition in asked]
    read = read_prompt(model, text.prompt, rotary=any(one.policy.needs_rotation for one in built))
    with model.hooks.opened(PolicyEdit(model, read, built)):
        rows = read.prefix.fork(len(built))
        logits = model.extend(rows, [list(text.continuation)] * len(built), logits="all")
    nats, _ = token_losses(logits[:, [place - 1 for place in text.scored]], [text.continuation[i] for i in text.scored])
    return dict(zip(asked, nats.tolist(), strict=True))


def stored(model: LanguageModel, settings: Settings, asked: Sequence[Condition]) -> Nats:
    """The same from the tables that a run keeps."""
    unit = TextUnit("bench", "lists", 0, "context_only", tuple(asked))
    table = measure_text(settings, model, unit)["token_losses"].set_index(["policy", "budget"])["surprisal_nats"]
    return {one: table.loc[(one.policy, one.budget)].tolist() for one in asked}


# ---------------------------------------------------------------------- scripts with transformers


@torch.inference_mode()
def prefilled(hf: Any, prompt: Sequence[int]) -> tuple[DynamicCache, tuple[Tensor, ...]]:
    """The prompt's cache, and all attention weights by layer."""
    cache = DynamicCache(config=hf.config)
    found = hf(torch.tensor([prompt]), past_key_values=cache, output_attentions=True, logits_to_keep=1)
    return cache, found.attentions


def scores_of(policy: str, keys: Tensor, weights: Tensor) -> Tensor:
    """What a policy ranks keys by, [key-value head, key]; one layer, one row."""
    n_heads, n = keys.shape[0], keys.shape[1]
    if policy == "streaming":
        return torch.arange(n).float().expand(n_heads, n)
    if policy == "knorm":
        return -keys.norm(dim=-1)
    if policy == "keydiff":
        unit = normalize(keys, dim=-1)
        return -(unit @ normalize(unit.mean(dim=1, keepdim=True), dim=-1).mT)[..., 0]
    if policy == "tova":
        return weights[:, -1].mean(dim=0).expand(n_heads, n)
    if policy == "h2o_mean":
        return weights.sum(dim=1).unflatten(0, (n_heads, -1)).mean(dim=1) / torch.arange(n, 0, -1)
    votes = weights[:, -WINDOW:, :-WINDOW].mean(dim=1)
    pooled = avg_pool1d(votes, KERNEL, stride=1, padding=KERNEL // 2).unflatten(0, (n_heads, -1)).mean(dim=1)
    return pad(pooled, (0, WINDOW), value=2.0)


def cut(
    cache: DynamicCache, attentions: Sequence[Tensor], policy: str, n: int, first: int, last: int
) -> list[tuple[Tensor, Tensor]]:
    """Keys and values that are left of each layer, in their order."""
    left = []
    for layer, weights in zip(cache.layers, attentions, strict=True):
        keys, values = layer.keys, layer.values
        assert keys is not None
        assert values is not None
        scores = scores_of(policy, keys[0], weights[0]).clone()
        scores[:, :first], scores[:, scores.shape[1] - last :] = torch.inf, torch.inf
        places = scores.topk(n, dim=-1).indices.sort(dim=-1).values[None, :, :, None].expand(-1, -1, -1, keys.shape[-1])
        left.append((keys.gather(2, places), values.gather(2, places)))
    return left


def cache_of(hf: Any, rows: Sequence[list[tuple[Tensor, Tensor]]]) -> DynamicCache:
    """A cache whose rows are what was left under each condition."""
    cache = DynamicCache(config=hf.config)
    for number, layers in enumerate(zip(*rows, strict=True)):
        cache.update(torch.cat([keys for keys, _ in layers]), torch.cat([values for _, values in layers]), number)
    return cache


def nats_of(logits: Tensor, text: Text) -> list[list[float]]:
    """Surprisals of the scored tokens from the logits after every token of the continuation."""
    wanted = torch.tensor([text.continuation[place] for place in text.scored])
    taken = torch.log_softmax(logits[:, [place - 1 for place in text.scored]], dim=-1)
    return (-taken.gather(-1, wanted[None, :, None].expand(len(taken), -1, -1))[..., 0]).tolist()


@torch.inference_mode()
def script_well(hf: Any, settings: Settings, text: Text, asked: Sequence[Condition]) -> Nats:
    """The script of a good engineer: one prefill, one batch for each budget."""
    cache, attentions = prefilled(hf, text.prompt)
    found: Nats = {}
    places = torch.arange(len(text.prompt), len(text.prompt) + len(text.continuation))
    for budget in settings.budgets:
        batch = [one for one in asked if one.budget == budget]
        n = settings.n_kept(budget)
        rows = [cut(cache, attentions, one.policy, n, settings.sinks, settings.recent) for one in batch]
        ids = torch.tensor([text.continuation]).expand(len(batch), -1)
        logits = hf(ids, past_key_values=cache_of(hf, rows), position_ids=places.expand(len(batch), -1)).logits
        found.update(zip(batch, nats_of(logits, text), strict=True))
    return found


@torch.inference_mode()
def generation(hf: Any, settings: Settings, text: Text, condition: Condition | None) -> list[float]:
    """One run of generation whose tokens are given: prefill, cut (unless there is no condition), one forward pass for each token."""
    if condition is None:
        cache = DynamicCache(config=hf.config)
        hf(torch.tensor([text.prompt]), past_key_values=cache, logits_to_keep=1)
    else:
        whole, attentions = prefilled(hf, text.prompt)
        n = settings.n_kept(condition.budget)
        left = cut(whole, attentions, condition.policy, n, settings.sinks, settings.recent)
        cache = cache_of(hf, [left])
    logits = []
    for place, token in enumerate(text.continuation, start=len(text.prompt)):
        here = torch.tensor([[place]])
        logits.append(hf(torch.tensor([[token]]), past_key_values=cache, position_ids=here).logits)
    return nats_of(torch.cat(logits, dim=1), text)[0]


# ---------------------------------------------------------------------- what is measured


def ways(model: LanguageModel, hf: Any, sizes: Sizes, text: Text) -> list[dict[str, Any]]:
    """Rows of every way of reading six policies at all budgets."""
    settings, asked = sizes.settings, conditions(sizes.settings, CUT)
    return compare(
        {
            "model": MODEL, "benchmark": NAME, "kind": "speed", "amount_name": "conditions",
            "case": f"{len(asked)} conditions, a prompt of {len(text.prompt)} tokens, {len(text.continuation)} after it",
        },
        {
            ("toolkit", "prompt read once, conditions as rows of a batch"): lambda: simulated(model, settings, text, asked),
            ("baseline", "prompt read once, a cut cache for each budget's batch"): lambda: script_well(hf, settings, text, asked),
            ("obvious", "one run of generation for each condition"): lambda: {
                one: generation(hf, settings, text, one) for one in asked
            },
            ("tables", "the toolkit with losses by head, kept tokens and classes"): lambda: stored(model, settings, asked),
        },
        sizes.repetitions,
        nats_apart,
        lambda *_: len(asked),
    )  # fmt: skip


def nats_apart(ours: Nats, theirs: Nats) -> Difference:
    """The largest difference of a surprisal; infinite where the toolkit lacks a condition."""
    pairs = [(ours.get(one, []), nats) for one, nats in theirs.items()]
    gaps = [abs(a - b) for mine, others in pairs if len(mine) == len(others) for a, b in zip(mine, others, strict=True)]
    lacks = any(len(mine) != len(others) for mine, others in pairs)
    return Difference(
        "largest difference of a surprisal, in nats", float("inf") if lacks else max(gaps), len(gaps), TOLERANCE
    )


def policy_costs(model: LanguageModel, hf: Any, sizes: Sizes, text: Text) -> pd.DataFrame:
    """One row for each policy alone, then all together: processor seconds over a forward pass and over a run of generation."""
    settings, budget = sizes.settings, sizes.settings.main_budget
    whole = torch.tensor([[*text.prompt, *text.continuation]])
    by_name = {one.policy: one for one in conditions(settings, sizes.policies) if one.budget == budget}

    @torch.inference_mode()
    def forward() -> None:
        hf(whole, use_cache=False, logits_to_keep=len(text.continuation))

    def seconds(work: Callable[[], Any]) -> float:
        return measure(work)[0].processor_seconds

    ratios: dict[str, list[tuple[float, float]]] = {}
    for _ in range(sizes.repetitions):
        plain, run = seconds(forward), seconds(lambda: generation(hf, settings, text, None))
        costs = {
            name: seconds(lambda one=one: simulated(model, settings, text, [one])) for name, one in by_name.items()
        }
        together = seconds(lambda: simulated(model, settings, text, list(by_name.values())))
        costs |= {f"{len(by_name)} together": together, f"each of {len(by_name)}": together / len(by_name)}
        for name, cost in costs.items():
            ratios.setdefault(name, []).append((cost / plain, cost / run))
    rows = []
    for name, pairs in ratios.items():
        rows.append([name, *(median(column) for column in zip(*pairs, strict=True))])
        say(f"{name} | times a forward pass {rows[-1][1]:.2f} | times a run of generation {rows[-1][2]:.2f}")
    return pd.DataFrame(rows, columns=["policy", "times_a_forward_pass", "times_a_run_of_generation"])


def growth(model: LanguageModel, sizes: Sizes, text: Text) -> list[dict[str, Any]]:
    """Rows by conditions of one prompt: random draws, as many as asked for."""

    def prepare(n: int) -> Callable[[], Nats]:
        budget = sizes.settings.main_budget
        asked = [Condition(f"random(draw={draw})", sizes.settings.protections[0], budget) for draw in range(n)]
        return lambda: simulated(model, sizes.settings, text, asked)

    labels = {"model": MODEL, "benchmark": NAME, "curve": "conditions"}
    return grow(labels, sizes.conditions, sizes.repetitions, prepare)
