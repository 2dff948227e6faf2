# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Verbatim memory
#
# Armeni et al. 2022 ask how exactly a language model holds on to a text it has just read. A list of nouns is read, then some prose, then a
# second list. If the second list is the same, how much less surprising are its nouns? If it is the same nouns in another order? If they
# are new?
#
# A small configuration on the default model. `VerbatimMemory()` without settings is the run behind the published results, and
# `VerbatimMemory(model="gpt2")` or `VerbatimMemory(model="lstm-news")` reads other models, recurrent ones too.

# %%
from probes.verbatim_memory.experiment import VerbatimMemory

settings = dict(
    list_lengths=(3, 7),
    n_base_lists=4,
    rotations=1,
    intervening=(1,),
    contexts=("intact",),
    conditions=("repeat", "permute", "novel"),
    exact_rotations=0,
)
run = VerbatimMemory(**settings, mask_sets=("postmatch",), mask_k=(10,), mask_draws=2).run(out="runs")
run

# %% [markdown]
# ## Tables
#
# Surprisal of the second list in percent of the first's, with intervals over base lists. `repeat` near 0 is verbatim memory; `novel` near
# 100 is the control.

# %%
summary = run.tables["repeat_surprisal"]
shown = summary[(summary["mode"] == "raw") & (summary["estimator"] == "ratio")]
shown[["condition", "list_length", "value", "ci_low", "ci_high", "n_base_lists"]]

# %% [markdown]
# The nouns themselves, one row per word:

# %%
words = run.tables["token_surprisals"]
words[words["condition"] == "repeat"].head(8)

# %% [markdown]
# ## Figures

# %%
run.figures["list_length"]

# %%
run.figures["positions"]

# %% [markdown]
# Which heads carry the list? Those that look at the word *after* the earlier occurrence, silenced, against random heads of the same layers:

# %%
run.figures["masking"]

# %% [markdown]
# ## Change one thing
#
# Is it the trained attention, or just the architecture? Damage the model: shuffle the positions it is told.

# %%
damaged = VerbatimMemory(**settings | {"list_lengths": (7,)}, nulls=("positions_shuffled",), mask_sets=()).run(
    out="runs"
)
damaged.figures["nulls"]
