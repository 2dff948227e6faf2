# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # At which layer is the next token decided?
#
# A lens says what a model would say if it stopped after some of its layers. The logit lens reads the state out by the model's own final
# norm and head; a tuned lens first maps it, by an affine map of that depth, to where the last layer keeps such things.

# %%
import pandas as pd

from interp.models import load
from interp.models.lens import LogitLens, TunedLens, shipped_lens

model = load("smollm2-135m", dtype="float32")
ids = model.tokenizer("The capital of France is")["input_ids"]
lenses = {"logit": LogitLens(model), "tuned": TunedLens.load(model, shipped_lens(model.identity))}
said = {
    name: [model.tokenizer.decode(logits.argmax()) for logits in lens.each_depth(ids)[:, -1]]
    for name, lens in lenses.items()
}
pd.DataFrame(said).rename_axis("layers passed").iloc[::3]

# %% [markdown]
# ## A run
#
# Two short texts and a few questions; every difference between kinds of tokens with its controls for frequency.

# %%
from probes.prediction_depth.experiment import PredictionDepth

settings = PredictionDepth.presets["quick"] | {"draft_tokens": 12}
run = PredictionDepth(**settings).run(out="runs")
run

# %%
run.tables["contrasts"][["contrast", "lens", "matched", "value", "ci_low", "ci_high", "n_rows"]].round(2)

# %%
run.figures["depths"]

# %% [markdown]
# ## One thing to change
#
# The same question through the layers above, with nothing of the text but its first token beside the state:

# %%
import torch

from interp.models.lens import read_through

lens, first, last = lenses["logit"], ids[0], ids[-1]
states = lens.states(torch.tensor([ids]))[:, 0]
for depth in (15, 20, 25, 30):
    logits = read_through(lens, states[depth, :1], states[depth, -1:], depth, torch.tensor([[first, last]]))
    print(depth, model.tokenizer.decode(logits[0].argmax()))
