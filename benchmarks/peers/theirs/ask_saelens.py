"""SAELens used well: the model to the dictionary's layer, encode; activations summed over the pairs of token and feature."""

import torch
from contract import answer
from sae_lens import SAE
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    hf = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"])
    bridge = TransformerBridge.boot_transformers(inputs["model"], hf_model=hf, tokenizer=tokenizer, device="cpu")
    sae = SAE.load_from_disk(inputs["dictionary"], device="cpu")
    hook, layer = inputs["hook"], inputs["layer"]

    @torch.inference_mode()
    def work():
        found = []
        for ids in inputs["windows"]:
            _, cache = bridge.run_with_cache(torch.tensor([ids]), names_filter=hook, stop_at_layer=layer + 1)
            values = sae.encode(cache[hook])[0, inputs["skip"] :]
            found.append(values.sum(dim=0).tolist())
        return found

    return work


answer(prepare)
