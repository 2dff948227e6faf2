# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where a text keeps its meaning
#
# Seven things are made of a sentence: a paraphrase, a translation, a changed detail, a negation, swapped roles, another statement on
# the same
# topic, and nothing related. How alike are the states of two such texts, in a causal model and in an encoder?

# %%
from interp.models.encoder import load_encoder
from probes.sequence_representation.pairs import own_pairs
from probes.sequence_representation.readers import EncoderReader
from probes.sequence_representation.scores import unit

reader = EncoderReader(load_encoder("all-minilm-l6-v2"))
pairs = own_pairs(1)
rows = [reader.encode(text) for text in (pairs[0].first, *(pair.second for pair in pairs))]
last = [states[0].mean(axis=0) for states in reader.states(rows, [reader.n_layers - 1])]
for pair, state in zip(pairs, last[1:], strict=True):
    print(f"{float(unit(last[0]) @ unit(state)):.2f}  {pair.kind:12} {pair.second}")

# %% [markdown]
# The same words with roles swapped are closer than a paraphrase. So are negations, and a translation into a script that the encoder
# does not
# know is far off.
#
# ## A run
#
# Four sentences, read in four ways by a model of 1.2 million parameters that ships with the toolkit, so that this takes seconds
# (`smollm2-135m` works the same way): by itself, in the prompt `This sentence : "…" means in one word:"`, with an empty slot
# before the sentence, and with its own last state written into that slot (Token Prepending).

# %%
from probes.sequence_representation.experiment import SequenceRepresentation

run = SequenceRepresentation(
    model="transformer-news-4",
    sentences=4,
    arms=("plain", "prompt", "slot", "prepend"),
    exits=(3,),
    prose_sentences=0,
    distractors=20,
).run(out="runs")
run

# %%
gains = run.tables["gains"]
gains[gains["pairs"] == "without traps"][["arm", "against", "layer", "measure", "value", "ci_low", "ci_high"]].round(2)

# %%
run.figures["correlations"]

# %% [markdown]
# ## One thing to change
#
# `SequenceRepresentation(pairs=Path("sts.tsv"))` takes pairs of your own, with a grade each. Which tokens find the right text:

# %%
run.figures["recalls"]
