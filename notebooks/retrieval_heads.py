# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Retrieval heads
#
# Wu et al. 2024 ask which attention heads copy an answer out of a long context, and whether the model needs them to. A sentence (the
# *needle*) is hidden in prose and asked for. While the model answers, a head scores for every answer token that it copies: the head looks
# hardest at a needle token, and that token is written.
#
# This is a small configuration on the default model, well under a minute on one core. `RetrievalHeads()` without settings is the run behind
# the published results, and `RetrievalHeads(model="llama2-7b")` is the same on a GPU.

# %%
import dataclasses
import json
from pathlib import Path

from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.needles import read_needles

# %% [markdown]
# ## Needles
#
# A needle file has one JSON object a line. We take a few of the toolkit's own; a file of yours works the same way.

# %%
needles = read_needles()[:8]
file = Path("runs/needles.jsonl")
file.parent.mkdir(exist_ok=True)
file.write_text("\n".join(json.dumps(dataclasses.asdict(needle)) for needle in needles))
needles[0]

# %% [markdown]
# ## Run
#
# A run is named by what it measures. Running the cell again reads the finished run.

# %%
run = RetrievalHeads(
    needles=file,
    context_tokens=(128,),
    depths=(0.5,),
    samples_per_needle=1,
    held_out_share=0.25,
    max_new_tokens=14,
    k=(5,),
    random_draws=2,
    echo_block_tokens=64,
).run(out="runs")
run

# %% [markdown]
# ## Tables
#
# One row is one observation. The strongest heads, with intervals over needles:

# %%
scores = run.tables["head_scores"]
copying = scores[scores["definition"] == "set"].nlargest(10, "score")
copying[["layer", "head", "score", "ci_low", "ci_high", "activation_frequency", "n_needles"]]

# %% [markdown]
# ## Figures

# %%
run.figures["head_map"]

# %%
run.figures["ablation"]

# %% [markdown]
# ## Change one thing
#
# Take the strongest heads away by hand, and as many others of the same layers, while the model answers one of the prompts above.

# %%
import random

from interp.models import load

model = load("smollm2-135m")
sample = run.tables["samples"].query("has_needle and passed").iloc[0]
ids = sample["prompt_token_ids"].tolist()


def answer() -> str:
    written = model.generate(model.prefix(ids[:-1], room=20), [[ids[-1]]], max_new_tokens=14)
    return model.tokenizer.decode(written[0], skip_special_tokens=True)


top = [(int(row.layer), int(row.head)) for row in copying.itertuples()]
same_layers = [(layer, head) for layer in sorted({layer for layer, _ in top}) for head in range(model.geometry.n_heads)]
others = random.Random(0).sample([place for place in same_layers if place not in top], len(top))
print("asked for:           ", sample["gold_text"])
print("whole model:         ", answer())
with model.edit_heads(top, "zero", phase="decode"):
    print("without the top ten: ", answer())
with model.edit_heads(others, "zero", phase="decode"):
    print("without ten others:  ", answer())

# %% [markdown]
# One question proves nothing; the table `ablation_summary` of the run above holds the test on held-out needles, with random heads as the
# control and plain prose to show harm in general.

# %%
summary = run.tables["ablation_summary"]
summary[summary["outcome"] == "recall"][["condition", "ranking", "k", "needles", "mean", "ci_low", "ci_high"]].head(12)
