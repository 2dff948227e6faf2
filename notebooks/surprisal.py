# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Surprisal of your own texts
#
# How surprising is every word, given what stands before it? The sum over a word's tokens (`raw`) is not quite its probability: a token
# that begins a word does not say that the word ends after it. `boundary` puts that right, and `exact` adds up all ways to spell the word.

# %%
from interp.models import load
from probes.surprisal.measure import surprisal

model = load("smollm2-135m")
texts = ["The keys to the cabinet are on the table.", "The keys to the cabinet is on the table."]
words = surprisal(model, texts, modes=("raw", "boundary", "exact"), bos="always")
words.pivot(index=["text_id", "word_index", "word"], columns="mode", values="surprisal_nats").round(3)

# %% [markdown]
# What the model expected where each word began: its entropy, and the place of the word's first token among all tokens.

# %%
words[words["mode"] == "raw"][["text_id", "word", "entropy_nats", "rank"]].head(9)

# %% [markdown]
# ## A run
#
# A run keeps its tables and writes a report. `Surprisal(texts="sentences.tsv")` reads a file of yours; without one, the first sentences
# of news articles are read.

# %%
from probes.surprisal.experiment import Surprisal

run = Surprisal(modes=("raw",), bos="always").run(out="runs")
run

# %%
run.tables["means"]

# %%
run.figures["words"]

# %%
run.figures["places"]

# %% [markdown]
# ## One thing to change
#
# Put something before every text: `prefix="In the office."` is read and not scored. Where does it change most?

# %%
behind = surprisal(model, texts, prefix="Nobody could open the office.", modes=("raw",))
behind[["text_id", "word", "surprisal_nats"]].head(9)
