"""TransformerLens: detect_head for induction heads on a text whose second half repeats the first."""

import torch
from contract import answer
from transformer_lens.head_detector import detect_head
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    hf = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"])
    bridge = TransformerBridge.boot_transformers(inputs["model"], hf_model=hf, tokenizer=tokenizer, device="cpu")
    bridge.to_tokens = lambda text, **_: torch.tensor(
        [inputs["repeated_ids"]]
    )  # the same tokens, whatever its BOS policy
    return lambda: [detect_head(bridge, "repeated", "induction_head").flatten().tolist()]


answer(prepare)
