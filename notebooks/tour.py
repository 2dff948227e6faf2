# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour
#
# The toolkit answers questions about memory and retrieval in transformers. You name a model and an experiment; it looks inside the model,
# measures, and leaves tidy tables, figures and a report behind. This notebook shows every part once, on the default model (135 million
# parameters, no GPU, no model hub). Each experiment has a notebook of its own beside this one.

# %%
from interp.experiments.catalogue import experiments

{name: kind.summary for name, kind in experiments().items()}

# %% [markdown]
# ## A model
#
# An alias, a Hugging Face id or a folder. What comes back wraps the transformers model: token ids in, token ids and tensors out.

# %%
import torch

from interp.models import load
from interp.models.language.recording import TopKeys, Weights

model = load("smollm2-135m")
model.geometry

# %%
ids = model.tokenizer("The key is under the mat. Where is the key? Under the")["input_ids"]
model.surprisal([ids])[0].round(decimals=1)  # nats; nothing stands before the first token

# %% [markdown]
# ### Look inside
#
# Attention of chosen queries, read inside the fused kernel. Where do the heads look just before " mat" should be written?

# %%
last = torch.tensor([[len(ids) - 1]])
with model.record(last, TopKeys(1), Weights(len(ids))) as recording:
    model.prefix(ids)
words = [model.tokenizer.decode(id) for id in ids]
weights = recording["weights"][:, 0, :, 0]  # [layer, head, key]
mat = words.index(" mat")
layer, head = divmod(int(weights[..., mat].argmax()), weights.shape[1])
f"head {layer}-{head} gives {float(weights[layer, head, mat]):.0%} of its attention to {words[mat]!r}"

# %%
import plotly.express as px

px.bar(
    x=[f"{place} {word}" for place, word in enumerate(words)],
    y=weights[layer, head],
    labels={"x": "token", "y": "attention"},
)

# %% [markdown]
# ### Change it
#
# The same reading with that head silent. Edits are context managers; they nest, and they leave no trace.

# %%
target = ids[mat]


def chance_of_mat() -> float:
    logits = model.extend(model.prefix(), [ids])[0, -1]
    return float(torch.log_softmax(logits.float(), -1)[target].exp())


whole = chance_of_mat()
with model.edit_heads([(layer, head)], "zero"):
    without = chance_of_mat()
{"whole model": whole, "without the head": without}

# %% [markdown]
# A head that looks at the answer need not be what writes it: attention is where to search, not the proof. Which heads copy, and whether the
# model needs them, is what the experiment `retrieval_heads` measures, with controls.

# %% [markdown]
# ## An experiment
#
# Settings are the fields of a frozen class; a run is named by them, can be stopped at any moment, and goes on from there. The same
# run on the command line: `python -m interp.experiments verbatim_memory --list-lengths 5 …`.

# %%
from probes.verbatim_memory.experiment import VerbatimMemory

settings = dict(
    list_lengths=(5,),
    n_base_lists=4,
    rotations=1,
    intervening=(1,),
    contexts=("intact",),
    exact_rotations=0,
    mask_sets=(),
)
run = VerbatimMemory(**settings).run(out="runs")
run

# %% [markdown]
# **Tables** are pandas frames, checked against a schema, on disk as parquet.

# %%
run.tables["repeat_surprisal"].head()

# %% [markdown]
# **Figures** are plotly figures, drawn from the tables alone.

# %%
run.figures["positions"]

# %% [markdown]
# The **report** is one page that opens without a network, with every table to search and download.

# %%
run.folder / "report.html"

# %% [markdown]
# ## Two runs side by side

# %%
from interp.experiments.run import compare

other = VerbatimMemory(**settings | {"seed": 1}).run(out="runs")
tables, figures = compare(run, other)
next(iter(figures.values()))

# %% [markdown]
# ## Your own statistic
#
# Every headline has an interval that resamples what generalises: needles, lists, problems, blocks of text. The same function is yours.

# %%
from interp.statistics import mean_estimate

words_read = run.tables["token_surprisals"]
repeated = words_read[words_read["condition"] == "repeat"]
mean_estimate(repeated["surprisal_nats"], repeated["base_list"])
