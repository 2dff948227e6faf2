"""LOCOS: detect_single_trial_logit_contrib, on prompts given as tokens; heads of samples without an answer step are left out."""

import os
import sys

sys.path.append(os.environ["PEER_SOURCE"])

import torch
from contract import answer
from locos.detectors import logit_contrib as theirs
from transformers import AutoModelForCausalLM, AutoTokenizer


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    hf = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"])
    layers, heads, kv_heads, dim = theirs.extract_head_config(hf)
    weights, _ = theirs.get_o_proj_weights(hf, layers, heads, dim)
    unembedding = theirs.get_unembedding_matrix(hf)
    hf(torch.tensor([[1] * 64]))

    def score(sample):
        found = theirs.detect_single_trial_logit_contrib(
            hf, tokenizer, torch.tensor([sample["ids"]]), *sample["needle"], layers, heads, kv_heads, dim,
            sample["answer"], "sdpa", weights, unembedding,
            max_decode_steps=sample["n_answer"], stop_token_ids=set(inputs["stop_ids"]),
        )  # fmt: skip
        return [float(value) for value in found.S_tau.flatten()] if found.num_answer_steps else []

    return lambda: [score(sample) for sample in inputs["samples"]]


answer(prepare)
