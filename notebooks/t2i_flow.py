# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Text-to-image flow
#
# Kaplan et al. 2025 ask which text tokens carry an item into a picture, what leaks from one item into another, and how to repair it. The
# vectors of some tokens are kept and all others cleaned; what is still drawn came from those.
#
# The default model draws coloured shapes from captions. Their truth is known, so the judge is exact. A small configuration;
# `T2IFlow(model="flux-schnell", prompts=…, judge=…)` asks a large model the same.

# %%
from probes.t2i_flow.experiment import T2IFlow

run = T2IFlow(
    n_prompts=2,
    n_items=3,
    seeds=2,
    steps=12,
    judge_check=4,
    grid_prompts=2,
    parts=("in_item", "inter_item", "repair"),
).run(out="runs")
run

# %% [markdown]
# ## Tables
#
# Each item's subsets of tokens, kept by themselves, and whether they show the item:

# %%
run.tables["in_item"][["item_id", "kept_tokens", "n_kept", "n_item_tokens", "visible_share", "shows", "minimal"]].head(
    10
)

# %% [markdown]
# What is seen of an item when only another item's vectors are kept: that is flow between items.

# %%
run.tables["inter_item"][["prompt_id", "kept_item", "asked_item", "from_prompt", "from_alone", "in_full"]].head(10)

# %% [markdown]
# ## Figures

# %%
run.figures["token_grid"]

# %%
run.figures["prompt_grid"]

# %% [markdown]
# ## Change one thing
#
# By hand: a caption with two shapes, drawn whole, and with the vectors of one item alone. Same noise.

# %%
import plotly.express as px

from interp.models import load_image

model = load_image("shapes-t2i")
text = "a red diamond and a blue cross"
whole, clean = model.encode([text]), model.clean()
noise = model.noise([0])
pictures = {
    text: model.generate(whole, noise, steps=12)[0],
    "only “red diamond” kept": model.generate(whole.keep(model.spans(text, "red diamond"), clean), noise, steps=12)[0],
    "only “blue cross” kept": model.generate(whole.keep(model.spans(text, "blue cross"), clean), noise, steps=12)[0],
}

# %%
import numpy as np

side_by_side = px.imshow((np.stack(list(pictures.values())) * 255).astype(np.uint8), facet_col=0, height=320)
for number, name in enumerate(pictures):
    side_by_side.layout.annotations[number].text = name
side_by_side.update_xaxes(visible=False).update_yaxes(visible=False)
