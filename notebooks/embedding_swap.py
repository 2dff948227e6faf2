# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a token's row carries
#
# Rows of the embedding are changed for chosen tokens, on the way in and out, while a model reads. A small model that comes with the
# toolkit is enough to see it.

# %%
import torch

from interp.models import load

model = load("transformer-news-4")
ids = model.tokenizer("The president said that the president will meet the team.", add_special_tokens=False)[
    "input_ids"
]
president, team = (model.tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in (" president", " team"))
plain = model.surprisal([ids])[0]
with model.edit_rows(torch.tensor([[president, team]]), torch.tensor([[team, president]])):
    swapped = model.surprisal([ids])[0]
[
    (model.tokenizer.decode([id]), round(float(a), 2), round(float(b), 2))
    for id, a, b in zip(ids[1:], plain[1:], swapped[1:], strict=True)
]

# %% [markdown]
# ## A run
#
# Texts under a cipher with a key of their own, Gaussian rows, rows of words that no text has; parts of speech from frames; rows of held-out
# tokens made from their pieces.

# %%
from probes.embedding_swap.experiment import EmbeddingSwap

run = EmbeddingSwap(model="transformer-news-4", **EmbeddingSwap.presets["quick"]).run(out="runs")
run

# %%
run.tables["ciphers"][["kind", "among", "is_changed", "seen", "gap_nats", "ci_low", "ci_high", "n_rows"]].round(2)

# %%
run.figures["ciphers"]

# %% [markdown]
# ## One thing to change
#
# Another rule for a row from its pieces, or another class of tokens: `EmbeddingSwap(rules=("mean", "spelling"), parts=("pieces",))`.

# %%
run.tables["rules"][["rule", "cosine", "output_nats", "input_nats"]].round(2)
