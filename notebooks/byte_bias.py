# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the end of a prompt costs
#
# A prompt is turned into tokens by itself. Where it ends inside a token of the text one has in mind, the model sees tokens that no text
# has in that place. The exact probability of bytes has no such border.

# %%
import numpy as np

from interp.models import load
from interp.models.bytes import ByteModel

model = load("smollm2-135m")
of_bytes = ByteModel(model, tolerance=0.05)
for prompt in ("The capital of France is", "The capital of France is ", "The capital of France is Pa"):
    p = np.exp(of_bytes.next_byte(prompt))
    best = np.argsort(-p)[:3]
    print(repr(prompt), [(chr(byte), round(float(p[byte]), 3)) for byte in best if byte < 256])

# %% [markdown]
# ## A run
#
# One prompt of every domain, and every way to go on: whatever follows the prompt's own tokens (naive), the last tokens chosen again (token
# healing), and exactly.

# %%
from probes.byte_bias.experiment import ByteBias

run = ByteBias(prompts_per_domain=1, tolerance=0.05).run(out="runs")
run

# %%
run.tables["ways"][["domain", "is_token_border", "way", "nats", "kl", "missed", "n_rows"]].round(3)

# %%
run.figures["ratios"]

# %% [markdown]
# ## One thing to change
#
# A probability of a continuation, given what stands before it, whatever the tokens:

# %%
(
    of_bytes.log_prob("ris", given="The capital of France is Pa"),
    of_bytes.log_prob("ella", given="The capital of France is Pa"),
)
