"""The toolkit's numbers for the same inputs: one function for each tool, which returns the work to be timed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.inputs import IMAGE_MODEL, samples_of
from interp.models.dictionary.dictionary import Dictionary
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from interp.models.language.model import LanguageModel
from interp.models.language.recording import AttentionRows
from interp.models.language.residuals import read_residuals
from interp.models.loading.image import load_image
from interp.retention.policies.base import Policy
from interp.retention.policies.baselines import KeyDiff, KNorm
from interp.retention.policies.evict import SnapKV, Tova
from interp.retention.policies.expected import Expected
from interp.retention.simulate import simulate
from probes.critical_tokens.definitions import Thresholds
from probes.retrieval_heads.measure import measure_samples

Numbers = list[list[float]]
Work = Callable[[], Numbers]


def token_surprisals(model: LanguageModel, inputs: dict[str, Any]) -> Work:
    """Surprisal of every token but the first of each text."""

    def work() -> Numbers:
        rows = model.surprisal(inputs["ids"])
        return [row[1 : len(ids)].tolist() for row, ids in zip(rows, inputs["ids"], strict=True)]

    return work


def surprisals_without_padding(model: LanguageModel, inputs: dict[str, Any]) -> Work:
    """The same when the end-of-sequence token cannot come: the tool pads with it and gives it no probability."""
    tokenizer: Any = model.tokenizer

    def work() -> Numbers:
        texts = inputs["ids"]
        logits = model.extend(model.rows(len(texts)), texts, logits="all").clone()
        logits[..., tokenizer.eos_token_id] = -torch.inf
        nats = -torch.log_softmax(logits[:, :-1], dim=-1)
        return [nats[row, torch.arange(len(ids) - 1), torch.tensor(ids[1:])].tolist() for row, ids in enumerate(texts)]

    return work


def text_log_likelihoods(model: LanguageModel, inputs: dict[str, Any]) -> Work:
    """Log-likelihood of each text after its first token."""
    tokens = token_surprisals(model, inputs)
    return lambda: [[-float(np.sum(nats))] for nats in tokens()]


class InductionMass:
    """`mass`, [row, head, query]: attention to the tokens that came after an earlier copy of the query's own."""

    def __init__(self, ids: list[int]) -> None:
        tokens = torch.tensor(ids)
        after_copy = torch.zeros((len(ids), len(ids)))
        after_copy[:, 1:] = (tokens[:, None] == tokens[None, :-1]).float()  # key k follows token k - 1
        self.pattern = torch.tril(after_copy).fill_diagonal_(0.0)

    def __call__(self, rows: AttentionRows) -> dict[str, Tensor]:
        """Sums each query's attention over those keys."""
        weights = rows.weights
        pattern = self.pattern[rows.wanted, : weights.shape[-1]]
        return {"mass": (weights * pattern).sum(dim=-1)}


def induction_scores(model: LanguageModel, inputs: dict[str, Any]) -> Work:
    """Share of every head's attention on induction positions, over all queries."""
    ids = inputs["repeated_ids"]

    def work() -> Numbers:
        with model.record(torch.arange(len(ids))[None], InductionMass(ids)) as recording:
            model.prefix(ids)
        return [recording["mass"][:, 0].mean(dim=-1).flatten().tolist()]

    return work


def feature_sums(model: LanguageModel, inputs: dict[str, Any]) -> Work:
    """Activations of every feature, summed over each window's tokens."""
    dictionary = Dictionary.from_folder(Path(inputs["dictionary"]))
    skip, layer = inputs["skip"], inputs["layer"]

    def work() -> Numbers:
        found = []
        for ids in inputs["windows"]:
            vectors = read_residuals(model, torch.tensor([ids]), [layer])[layer][0, skip:]
            total = torch.zeros(dictionary.n_features)
            for _, feature, value in dictionary.active(vectors):
                total.index_add_(0, feature, value)
            found.append(total.tolist())
        return found

    return work


def head_scores(column: str) -> Callable[[LanguageModel, dict[str, Any]], Work]:
    """Returns the function for one score of every head in every sample; all scores come from the same pass."""

    def prepare(model: LanguageModel, inputs: dict[str, Any]) -> Work:
        samples = samples_of(model)

        def work() -> Numbers:
            tables = measure_samples(
                model,
                samples,
                max_new_tokens=inputs["samples"][0]["n_answer"],
                stop_ids=inputs["stop_ids"],
                sharing=True,
            )
            if column == "locos":
                rows = tables["logit_contribution"].query("definition == 'locos'").rename(columns={"score": "value"})
            else:
                rows = tables["sample_head_scores"].rename(columns={column: "value"})
            by_sample = {id: part["value"].tolist() for id, part in rows.groupby("sample_id", sort=False)}
            return [[] if np.isnan(by_sample[one.sample_id]).all() else by_sample[one.sample_id] for one in samples]

        return work

    return prepare


def feature_maxima(model: LanguageModel, inputs: dict[str, Any]) -> Work:
    """The highest activation of every feature in each window, largest first; 0 where it is not active."""
    dictionary = Dictionary.from_folder(Path(inputs["dictionary"]))
    skip, layer, windows = inputs["skip"], inputs["layer"], inputs["windows"]

    def work() -> Numbers:
        highest = torch.zeros((len(windows), dictionary.n_features))
        for ids, own in zip(windows, highest, strict=True):
            vectors = read_residuals(model, torch.tensor([ids]), [layer])[layer][0, skip:]
            for _, feature, value in dictionary.active(vectors):
                own.scatter_reduce_(0, feature, value, "amax")
        return highest.T.sort(dim=1, descending=True).values.tolist()

    return work


def heat_maps(inputs: dict[str, Any], image_model: ImageModel, prompt: str) -> HeatMaps:
    """Returns the maps recorded while one prompt is drawn."""
    record = HeatMaps()
    noise = torch.tensor(inputs["noise"])
    image_model.generate(
        image_model.encode([prompt]), noise, steps=inputs["steps"], guidance=inputs["guidance"], record=record
    )
    return record


def maps_by_resolution(n: int | None) -> Callable[[LanguageModel, dict[str, Any]], Work]:
    """Returns the function for the maps of the n largest resolutions, or all: [position, height, width] of each."""

    def prepare(_: LanguageModel, inputs: dict[str, Any]) -> Work:
        image_model = load_image(IMAGE_MODEL)
        heat_maps(inputs, image_model, inputs["prompts"][0])  # warm up

        def maps(prompt: str) -> list[float]:
            record = heat_maps(inputs, image_model, prompt)
            sizes = sorted(record.resolutions, reverse=True)[:n]
            return torch.cat([record.at(size)[0].flatten() for size in sizes]).tolist()

        return lambda: [maps(prompt) for prompt in inputs["prompts"]]

    return prepare


def word_maps(_: LanguageModel, inputs: dict[str, Any]) -> Work:
    """The map of one word of each prompt, as large as the latents."""
    image_model = load_image(IMAGE_MODEL)
    heat_maps(inputs, image_model, inputs["prompts"][0])  # warm up
    side = len(inputs["noise"][0][0])

    def word_map(prompt: str, word: str) -> list[float]:
        positions = image_model.spans(prompt, word)
        return heat_maps(inputs, image_model, prompt).overlay(positions, side, side)[0].flatten().tolist()

    return lambda: [word_map(*pair) for pair in zip(inputs["prompts"], inputs["words"], strict=True)]


def pivotal_changes(key: str) -> Callable[[LanguageModel, dict[str, Any]], Work]:
    """Returns the function for the change of V at every token of trajectories whose V is known; 0 where it is below the effect."""
    effect = Thresholds().effect

    def prepare(_: LanguageModel, inputs: dict[str, Any]) -> Work:
        def work() -> Numbers:
            changes = [np.diff(values) for values in inputs[key]]
            return [np.where(abs(change) >= effect, change, 0.0).tolist() for change in changes]

        return work

    return prepare


def surprisals_under(policy: Policy) -> Callable[[LanguageModel, dict[str, Any]], Work]:
    """Returns the function for the surprisal of what follows a prompt when its keys are kept by a policy."""

    def prepare(model: LanguageModel, inputs: dict[str, Any]) -> Work:
        n_prompt, budget = inputs["kv_prompt_tokens"], inputs["kv_budget"]

        def nats(ids: list[int]) -> list[float]:
            logits = simulate(model, policy, ids, n_prompt=n_prompt, budget=budget).logits[:-1]
            wanted = torch.tensor(ids[n_prompt + 1 :])
            return (-torch.log_softmax(logits, dim=-1)[torch.arange(len(wanted)), wanted]).tolist()

        return lambda: [nats(inputs["samples"][0]["ids"])]

    return prepare


OURS: dict[str, Callable[[LanguageModel, dict[str, Any]], Work]] = {
    "minicons": token_surprisals,
    "surprisal": surprisals_without_padding,
    "lm_eval": text_log_likelihoods,
    "detect_head": induction_scores,
    "saelens": feature_sums,
    "retrieval_head": head_scores("count_score"),
    "locos_behavioral": head_scores("count_score"),
    "locos_contribution": head_scores("locos"),
    "delphi": feature_maxima,
    "attention_map_diffusers": maps_by_resolution(None),
    "daam": maps_by_resolution(1),
    "daam_words": word_maps,
    "kvpress_knorm": surprisals_under(KNorm()),
    "kvpress_keydiff": surprisals_under(KeyDiff()),
    "kvpress_tova": surprisals_under(Tova()),
    "kvpress_snapkv": surprisals_under(SnapKV(window=64, kernel=5)),
    "kvpress_expected": surprisals_under(Expected(whole=False)),
    "pts_one_drop": pivotal_changes("chains_one_drop"),
    "pts_random": pivotal_changes("chains_random"),
}
"""By the script of theirs that answers the same question."""
