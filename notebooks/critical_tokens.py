# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Critical tokens
#
# Lin et al. 2024 ask which generated tokens decide whether an answer comes out right. From every prefix of a wrong answer the model goes on
# many times; V is the share that ends right. A token after which V falls for good is critical.
#
# A small configuration: sums, one wrong answer, and *cliffs*: drops of V proven on fresh rollouts, with the rate of false discoveries
# controlled.

# %%
from probes.critical_tokens.experiment import CriticalTokens

settings = dict(
    levels=("arithmetic-1-9",),
    calibration_problems=1,
    responses_per_problem=8,
    n_trajectories=1,
    max_new_tokens=20,
    definitions=("cliff",),
    scan_rollouts=8,
    max_pairs=24,
    exact_tokens=0,
    replacement_rollouts=8,
    contrastive_examples=0,
)
run = CriticalTokens(**settings).run(out="runs")
run

# %% [markdown]
# ## Tables
#
# V after every token of the wrong answer, with a 95% interval:

# %%
positions = run.tables["positions"]
positions[["position", "token", "value", "ci_low", "ci_high"]]

# %% [markdown]
# What was proven:

# %%
run.tables["critical"]

# %% [markdown]
# ## Figures

# %%
run.figures["trajectory_1"]

# %% [markdown]
# Is the token the cause? Forbid it and go on, against a random token forbidden:

# %%
run.figures.get("replacement")

# %% [markdown]
# ## Change one thing
#
# The random choices all come from the seed: another seed is another problem and another wrong answer. `calibrate_only` stops before the
# search: how often does the model get such sums right at all?

# %%
again = CriticalTokens(**settings | {"calibrate_only": True, "seed": 1}).run(out="runs")
again.tables["levels"]
