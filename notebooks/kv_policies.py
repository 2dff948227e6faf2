# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a key-value cache throws away
#
# A policy says which keys the steps after a prompt may read. `simulate` gives what a real cache would give, exactly: keep sets, head
# outputs and logits.

# %%
from interp.models import load
from interp.retention.policies.baselines import Full, Streaming
from interp.retention.policies.evict import SnapKV
from interp.retention.simulate import simulate

model = load("smollm2-135m")
text = "The key lies under the mat beside the door. " + "Nobody had been in the house for years. " * 8
ids = model.tokenizer(text + "Where is the key? It lies under the mat")["input_ids"]
n_prompt = len(model.tokenizer(text)["input_ids"])
for policy in (Full(), Streaming(), SnapKV(window=8)):
    budget = n_prompt if isinstance(policy, Full) else 24
    found = simulate(model, policy, ids, n_prompt=n_prompt, budget=budget)
    nats = -found.logits[-2].log_softmax(-1)[ids[-1]]
    print(f"{type(policy).__name__}: {nats:.2f} nats for {model.tokenizer.decode(ids[-1:])!r}")

# %% [markdown]
# ## A run
#
# A small one: three policies at one budget, with the heads that carry the loss, and how many heads must keep everything.

# %%
from probes.kv_policies.experiment import KvPolicies

run = KvPolicies(
    policies=("random", "streaming", "h2o_sum"), budgets=(0.25,), prompt_tokens=160, prose_texts=1, lists=1, needles=2,
    finding_needles=2, scopes=("context_only",), protections=("sinks_recent",), restored_k=(4, 8), random_draws=1, dynamics_texts=1,
).run(out="runs")  # fmt: skip
run

# %%
run.tables["policies"][["material", "policy", "change_nats", "ci_low", "ci_high", "recall", "mean_kept", "n"]].round(2)

# %%
run.figures["losses"]

# %%
run.figures["restored"]
