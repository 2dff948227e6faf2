"""Contrastive estimation: two adapters trained on a model's own right and wrong responses, and the score that sets them apart.

Lin et al. 2024, section 3. As in their script, LoRA (r = 8, α = 16) on the feed-forward projections, loss on responses only.
Unlike it, the worked examples are left out of the text that the adapters read: question and response only. The cDPO loss that
takes the score as weights is here as it is printed and as the script computes it; the two differ.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from probes.critical_tokens.plan import ContrastiveUnit
from probes.critical_tokens.problems import find_problem, split_id
from probes.critical_tokens.responses import prompt_ids, setting_of
from probes.critical_tokens.settings import Settings

RANK, ALPHA, BATCH = 8, 16, 8
_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
Example = tuple[list[int], list[int]]
"""Tokens of a question, tokens of a response."""


def measure_contrastive(settings: Settings, model: LanguageModel, unit: ContrastiveUnit) -> Mapping[str, pd.DataFrame]:
    """Returns the contrastive score of every token of every analysed trajectory."""

    def examples(pairs: Sequence[tuple[str, tuple[int, ...]]], thoughts: Sequence[tuple[int, ...]]) -> list[Example]:
        before = thoughts or [()] * len(pairs)
        return [
            ([*_question(settings, model, problem), *thought], list(ids))
            for (problem, ids), thought in zip(pairs, before, strict=True)
        ]

    with adapters(model) as wrapped:
        sides = (
            ("positive", unit.right, unit.thoughts[0], settings.positive_adapter),
            ("negative", unit.wrong, unit.thoughts[1], settings.negative_adapter),
        )
        for name, pairs, thoughts, given in sides:
            if given is None:
                train(wrapped, name, examples(pairs, thoughts), settings)
            else:
                load_adapter(wrapped, name, given, model)
        rows = []
        analysed = [(id.rpartition("-")[0], ids) for id, ids in unit.analysed]
        for (id, ids), (question, _) in zip(unit.analysed, examples(analysed, unit.thoughts[2]), strict=True):
            own = torch.tensor(list(ids), device=model.device)[:, None]
            logits = [response_logits(wrapped, name, (question, list(ids))) for name in ("positive", "negative")]
            score = contrastive_score(logits[0], logits[1], settings.contrastive_beta).gather(1, own).squeeze(1).exp()
            sides_p = [torch.log_softmax(one.double(), dim=-1).gather(1, own).squeeze(1) for one in logits]
            rows.append(
                pd.DataFrame(
                    {
                        "trajectory_id": id,
                        "position": range(len(ids)),
                        "log_p_positive": sides_p[0].cpu().numpy(),
                        "log_p_negative": sides_p[1].cpu().numpy(),
                        "score": score.clamp(0, 1).cpu().numpy(),
                    }
                )
            )
    return {"contrastive": pd.concat(rows, ignore_index=True)}


def _question(settings: Settings, model: LanguageModel, problem_id: str) -> list[int]:
    return prompt_ids(model, find_problem(settings, *split_id(problem_id)).question, setting_of(settings, model))


@contextmanager
def adapters(model: LanguageModel) -> Iterator[Any]:
    """Wraps the model with two untrained LoRA adapters, "positive" and "negative", and takes them off again at the end."""
    import peft

    names = {name.rpartition(".")[2] for name, _ in model.hf.named_modules()}
    targets = [name for name in _PROJECTIONS if name in names] or "all-linear"
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft 0.19 asks transformers by an old name whether it checkpoints gradients.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        torch.manual_seed(0)  # where LoRA starts; what is drawn elsewhere does not depend on it
        wrapped = peft.get_peft_model(model.hf, config, adapter_name="positive")
        wrapped.add_adapter("negative", config)
    try:
        yield wrapped
    finally:
        wrapped.unload()
        model.hf.eval().requires_grad_(False)


def train(wrapped: Any, name: str, examples: Sequence[Example], settings: Settings) -> float:
    """Trains one adapter on responses; returns the last batch's mean loss in nats per token."""
    wrapped.set_adapter(name)
    wrapped.eval()  # adapters learn all the same, and no dropout of the model's acts
    weights = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.contrastive_learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(settings.seed)
    loss = torch.zeros(())
    for _ in range(settings.contrastive_epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        for first in range(0, len(order), BATCH):
            batch = [examples[index] for index in order[first : first + BATCH]]
            loss = response_loss(wrapped, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return float(loss.detach())


def response_loss(wrapped: Any, batch: Sequence[Example]) -> Float[Tensor, ""]:
    """Returns the mean surprisal of response tokens, questions and padding left out."""
    width = max(len(question) + len(response) for question, response in batch)
    device = next(wrapped.parameters()).device
    ids = torch.zeros((len(batch), width), dtype=torch.long, device=device)
    seen, scored = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, (question, response) in enumerate(batch):
        end = len(question) + len(response)
        ids[row, :end] = torch.tensor([*question, *response], device=device)
        seen[row, :end] = 1
        scored[row, len(question) : end] = True
    logits = wrapped(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1].float()
    surprisal = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return surprisal[scored[:, 1:].flatten()].mean()


@torch.inference_mode()
def response_logits(wrapped: Any, name: str, example: Example) -> Float[Tensor, "token vocabulary"]:
    """Returns an adapter's logits before every token of a response."""
    wrapped.set_adapter(name)
    question, response = example
    ids = torch.tensor([[*question, *response]], device=next(wrapped.parameters()).device)
    logits = wrapped(input_ids=ids, use_cache=False).logits[0].float()
    return logits[len(question) - 1 : -1]


def load_adapter(wrapped: Any, name: str, folder: Path, model: LanguageModel) -> None:
    """Puts a user's LoRA adapter in place of an untrained one.

    Raises ArgumentError for a folder without one, or one that was trained on another base model.
    """
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ArgumentError(
            f"{folder} holds no adapter_config.json: give a folder that peft's save_pretrained wrote."
        ) from error
    known = {None, "", model.identity.name, model.identity.source, model.hf.config._name_or_path}
    if base not in known:
        raise ArgumentError(
            f"The adapter in {folder} belongs to {base}, not to {model.identity.name}: name that with --model."
        )
    try:
        wrapped.delete_adapter(name)
        wrapped.load_adapter(str(folder), adapter_name=name, use_safetensors=True)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ArgumentError(
            f"The adapter in {folder} does not fit {model.identity.name}: name the model it was trained on with --model."
        ) from error


# ---------------------------------------------------------------------- score and loss


def contrastive_score(
    positive: Float[Tensor, "*row vocabulary"], negative: Float[Tensor, "*row vocabulary"], beta: float
) -> Float[Tensor, "*row vocabulary"]:
    """Returns ln s of every token: (1 + β) ln P_pos − β ln P_neg, normalised over the vocabulary (equation 1).

    Takes logits: constants of a position cancel.
    """
    return torch.log_softmax((1 + beta) * positive.double() - beta * negative.double(), dim=-1)


def cdpo_loss_printed(
    chosen: Float[Tensor, "pair chosen_token"],
    rejected: Float[Tensor, "pair rejected_token"],
    scores: Float[Tensor, "pair rejected_token"],
    *,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """Returns −mean ln σ(γ Σ_t c_t − γ Σ_t (1 − s_t) r_t), equations 3 to 5: log-ratios summed over each response.

    `chosen` and `rejected` hold ln π(y_t) − ln π_ref(y_t), 0 at padding; `scores` the contrastive s_t of the rejected one.
    """
    margin = chosen.sum(-1) - ((1 - scores) * rejected).sum(-1)
    return -F.logsigmoid(gamma * margin).mean()


def cdpo_loss_released(
    chosen: Float[Tensor, "pair token"],
    rejected: Float[Tensor, "pair token"],
    scores: Float[Tensor, "pair token"],
    *,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """Returns the mean over positions of −ln σ(γ (c_t − (1 − s_t) r_t)), as the public script computes it.

    Position t of the chosen response is set against position t of the rejected one, and padding (0, so ln 2) counts too.
    """
    return -F.logsigmoid(gamma * (chosen - (1 - scores) * rejected)).mean()
