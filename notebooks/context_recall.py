# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does it fail to find, to bind or to say?
#
# A task puts down a context piece by piece, so that the token spans of every key and value are known. Here is one sample of multi-query
# recall, as the model reads it.

# %%
import numpy as np

from interp.models import load
from probes.context_recall.draft import Draft
from probes.context_recall.settings import Settings
from probes.context_recall.tasks.catalogue import task_of
from probes.context_recall.words import words_of

model = load("smollm2-135m")
words = words_of(model.tokenizer, "english")
draft = Draft(model.tokenizer, words, Settings().read_frames(), np.random.default_rng(0))
sample = task_of("mqar").sample(draft, {"pairs": 4})
print(model.tokenizer.decode(list(sample.ids)))
for question in sample.questions:
    print(repr(model.tokenizer.decode(list(question.ids))), "->", repr(model.tokenizer.decode(list(question.right[0]))))

# %% [markdown]
# ## A run
#
# Two tasks, small: the newest value of a key, and one of eight. Found: retrieval heads attend most to the right pair. Bound: its value is
# likelier than every other value of the context. Said: it is the greedy answer.

# %%
from probes.context_recall.experiment import ContextRecall

run = ContextRecall(
    tasks=("mqar(pairs=8)", "forgetting"), samples=6, lengths=(), finding_needles=2, random_draws=1
).run(out="runs")
run

# %%
run.tables["found"][["task", "step", "chance", "value", "ci_low", "ci_high", "n"]].round(2)

# %%
run.figures["stages"]

# %% [markdown]
# ## Which heads it rests on
#
# What the margin loses without retrieval or induction heads, beyond random heads of the same layers; and with the answer's attention cut.

# %%
causes = run.tables["causes"]
causes[causes["quantity"] == "first_margin_nats"][
    ["task", "condition", "drop", "control_drop", "beyond", "beyond_ci_low", "beyond_ci_high"]
].round(2)

# %% [markdown]
# ## One thing to change
#
# `tasks=("mqar(pairs=8, gap=24)",)` puts fillers between the pairs and the question, `model="transformer-news-4"` reads with a model of
# another size, and a task of your own is a generator and one decorator: see docs/adding_a_task.md.
