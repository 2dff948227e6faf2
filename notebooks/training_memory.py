# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What training leaves behind
#
# A small model studies sentences of the news. Afterwards, does it find them likelier than others, can it complete them, and for how
# long? The model is one of 1.2 million parameters that ships with the toolkit, so that this takes seconds; `smollm2-135m` works the
# same way with a smaller learning rate.

# %%
from probes.training_memory.experiment import TrainingMemory

run = TrainingMemory(conditions=("natural", "random"), sentences=12, exposures=(0, 1, 3, 10), years_step=0).run(
    out="runs"
)
run

# %%
run.tables["recognised"][["condition", "foil", "exposures", "margin", "recognised", "recognised_ci_low"]].round(2)

# %%
run.figures["recalled"]

# %% [markdown]
# Scored as in the released code, with the given half in both texts, two thirds are "recalled" before anything is studied.
#
# ## How long it lasts

# %%
run.figures["lasting"]

# %% [markdown]
# ## One thing to change
#
# `TrainingMemory(texts=Path("sentences.txt"))` studies sentences of your own, one per line. And by hand, with the weights put back at
# the end:

# %%
from interp.models import load
from probes.training_memory.scores import completions
from probes.training_memory.stimuli import begun
from probes.training_memory.trainer import Trainer, restored

model = load("transformer-news-4")
ids = begun(model.tokenizer, model.tokenizer("The keeper of the lighthouse counts the boats at noon.")["input_ids"])
with restored(model):
    trainer = Trainer(model, 3e-3)
    losses = [trainer.update([ids]).loss_nats for _ in range(12)]
    written = completions(model, [ids[:5]], [8])[0]
print([round(loss, 2) for loss in losses], repr(model.tokenizer.decode(written)))
