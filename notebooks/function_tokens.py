# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Function tokens
#
# Zhang et al. 2025 read a corpus, note which sparse-autoencoder features are active at which tokens, and find that a handful of frequent
# tokens (" the", ",", " of") reach most features. Does that say something about those tokens, or only that they are frequent? The toolkit
# draws the same graph with labels shuffled over positions, and counts.
#
# A small configuration: one shipped dictionary, about a thousand tokens. Coverage grows with the corpus, so compare it with its null.

# %%
from probes.function_tokens.experiment import FunctionTokens

experiment = FunctionTokens(
    parts=("graph", "losses"), tokens=1_000, blocks=2, loss_tokens=300, shuffles=2, random_sets=3
)
shipped = experiment.dictionary_names("smollm2-135m")
[name.rsplit("/", 1)[-1] for name in shipped]

# %%
import dataclasses

run = dataclasses.replace(experiment, dictionary=(shipped[1],)).run(out="runs")
run

# %% [markdown]
# ## Tables
#
# The tokens that reach most features, beside what chance gives a token of that frequency:

# %%
degrees = run.tables["token_degrees"]
degrees.nlargest(10, "degree")[
    ["token", "token_class", "occurrences", "degree", "null_degree", "excess", "excess_ci_low", "excess_ci_high"]
]

# %% [markdown]
# And the features of one token, from the edges:

# %%
edges = run.tables["edges"]
token = degrees.nlargest(1, "occurrences").iloc[0]
edges[edges["token_id"] == token["token_id"]].nlargest(5, "count")[
    ["feature_id", "count", "document_count", "activation_max"]
]

# %% [markdown]
# ## Figures

# %%
run.figures["coverage"]

# %%
run.figures["accumulation"]

# %%
run.figures["pair_losses"]

# %% [markdown]
# ## Change one thing
#
# Function tokens were defined as those that cover 40% of all occurrences. Do the losses depend on where that line is drawn? The run has
# them at four thresholds.

# %%
losses = run.tables["pair_losses"].assign(pair=lambda table: table["current_class"] + " → " + table["next_class"])
losses.pivot(index="pair", columns="threshold", values="loss_share").round(2)
