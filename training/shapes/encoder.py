"""The text encoder, trained before the denoiser and then left as it is: told where to keep what (guarded), or not (free, bidirectional).

guarded        The last token of a noun must tell its colour, the shape that is drawn and whether the item comes first; a colour's last
               token its colour. Every token that names no item must have the same vector whatever else the caption says.
free           Captions and pictures are brought together as in CLIP: the vector at the end token of a caption must be nearer to its
               own picture's than to those of other captions. Nothing is said about any other token.
bidirectional  The same goal for an encoder of T5's kind, in which every token reads all others, padding included, as in the pipelines
               of SD3 and FLUX, which give T5 no mask.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from probes.t2i_flow.scenes import COLOURS, SHAPES, Scene
from training.shapes.captions import Captions
from training.shapes.pictures import latents_of, random_cells
from training.shapes.recipe import EncoderRecipe
from training.shapes.vocabulary import CONTEXT_TOKENS

Encoder = CLIPTextModel | T5EncoderModel


def new_encoder(tokenizer: Any, recipe: EncoderRecipe) -> Encoder:
    """Returns an untrained encoder of the tokenizer's kind: CLIP's reads from left to right, T5's in both directions."""
    if isinstance(tokenizer, T5Tokenizer):
        return T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=recipe.width,
                d_kv=recipe.width // recipe.heads,
                d_ff=2 * recipe.width,
                num_layers=recipe.layers,
                num_heads=recipe.heads,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                is_encoder_decoder=False,
            )
        )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        projection_dim=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def train_encoder(
    regime: str, captions: Captions, scenes: list[Scene], tokenizer: CLIPTokenizer | T5Tokenizer, recipe: EncoderRecipe
) -> tuple[Encoder, list[dict[str, float]]]:
    """Returns a trained encoder and its learning curve."""
    torch.manual_seed(recipe.seed)
    encoder = new_encoder(tokenizer, recipe)
    if regime == "guarded":
        goal: nn.Module = _Guarded(captions, recipe)
    else:
        goal = _Free(captions, scenes, recipe, tokenizer.eos_token_id)
    parameters = [*encoder.parameters(), *goal.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps, pct_start=0.1)
    rng = np.random.default_rng(recipe.seed)
    curve = []
    for step in tqdm(range(recipe.steps), desc=f"{regime} encoder", disable=None):
        chosen = rng.integers(len(captions.ids), size=recipe.batch)
        loss, measured = goal(encoder, torch.from_numpy(chosen), rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            curve.append({"step": step, "loss": loss.item(), **measured})
    return encoder.eval().requires_grad_(False), curve


class _Guarded(nn.Module):
    """Linear readers of what the tokens must tell, and the penalty on what the others must not."""

    def __init__(self, captions: Captions, recipe: EncoderRecipe) -> None:
        super().__init__()
        self.captions, self.weight = captions, recipe.silence_weight
        self.noun = nn.Linear(recipe.width, len(COLOURS) + len(SHAPES) + 2)
        self.colour = nn.Linear(recipe.width, len(COLOURS))
        first = torch.zeros(len(captions.ids) + 1, dtype=torch.long)
        first[1:] = torch.bincount(captions.caption, minlength=len(captions.ids)).cumsum(0)
        self.first_item = first

    def forward(
        self, encoder: Encoder, chosen: Int[Tensor, " row"], _rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Returns the loss on some captions, and what it is made of."""
        captions = self.captions
        ids = captions.ids[chosen]
        states = encoder(input_ids=ids).last_hidden_state
        rows, items = self._items(chosen)
        noun = self.noun(states[rows, captions.noun_position[items]]).split((len(COLOURS), len(SHAPES), 2), dim=-1)
        colour = self.colour(states[rows, captions.colour_position[items]])
        targets = (captions.colour[items], captions.shape[items], captions.place[items])
        told = sum(cross_entropy(found, wanted) for found, wanted in zip(noun, targets, strict=True))
        told = told + cross_entropy(colour, captions.colour[items])
        spread = spread_of_equal_tokens(states, ids, captions.silent[chosen])
        right = torch.stack([found.argmax(-1) == wanted for found, wanted in zip(noun, targets, strict=True)]).all(0)
        return told + self.weight * spread, {"items_right": right.float().mean().item(), "spread": spread.item()}

    def _items(self, chosen: Int[Tensor, " row"]) -> tuple[Int[Tensor, " item"], Int[Tensor, " item"]]:
        """Row of the batch and number of every item of the chosen captions."""
        counts = self.first_item[chosen + 1] - self.first_item[chosen]
        rows = torch.arange(len(chosen)).repeat_interleave(counts)
        before = counts.cumsum(0) - counts
        items = self.first_item[chosen][rows] + torch.arange(len(rows)) - before[rows]
        return rows, items


def spread_of_equal_tokens(
    states: Float[Tensor, "row position channel"], ids: Int[Tensor, "row position"], silent: Tensor
) -> Float[Tensor, ""]:
    """Returns the mean squared distance of silent tokens from the mean of the same token at the same position."""
    position = torch.arange(ids.shape[1]).expand_as(ids)
    _, group = torch.unique((ids * ids.shape[1] + position)[silent], return_inverse=True)
    vectors = states[silent]
    n = torch.bincount(group)
    mean = torch.zeros(len(n), vectors.shape[1]).index_add(0, group, vectors) / n[:, None]
    return (vectors - mean[group]).square().mean()


class _Free(nn.Module):
    """CLIP's contrast between captions and pictures of random placement."""

    def __init__(self, captions: Captions, scenes: list[Scene], recipe: EncoderRecipe, end: int) -> None:
        super().__init__()
        self.captions, self.scenes, self.end = captions, scenes, end
        self.text = nn.Linear(recipe.width, recipe.width, bias=False)
        self.eye = nn.Sequential(
            nn.Conv2d(12, 64, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(64, 128, 1),
            nn.GELU(),
            _Mean(),
            nn.Linear(128, recipe.width),
        )  # one look at each cell
        self.scale = nn.Parameter(torch.tensor(np.log(10.0)).float())

    def forward(
        self, encoder: Encoder, chosen: Int[Tensor, " row"], rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Returns the loss on some captions, and the share of captions whose own picture is the nearest."""
        scenes = [self.scenes[index] for index in chosen.tolist()]
        ids = self.captions.ids[chosen]
        states = encoder(input_ids=ids).last_hidden_state
        at_end = states[torch.arange(len(ids)), (ids == self.end).int().argmax(-1)]
        said = normalize(self.text(at_end), dim=-1)
        seen = normalize(self.eye(latents_of(scenes, [random_cells(scene, rng) for scene in scenes])), dim=-1)
        likeness = self.scale.exp().clamp(max=100) * said @ seen.T
        drawn = {}
        same = torch.tensor(
            [drawn.setdefault(frozenset(item.drawn for item in scene.items), at) for at, scene in enumerate(scenes)]
        )
        likeness = likeness.masked_fill((same[:, None] == same) & ~torch.eye(len(scenes), dtype=torch.bool), -torch.inf)
        own = torch.arange(len(scenes))
        loss = (cross_entropy(likeness, own) + cross_entropy(likeness.T, own)) / 2
        return loss, {"found": (likeness.argmax(-1) == own).float().mean().item()}


class _Mean(nn.Module):
    def forward(self, x: Float[Tensor, "row channel height width"]) -> Float[Tensor, "row channel"]:
        """Returns the mean over the picture."""
        return x.mean(dim=(2, 3))
