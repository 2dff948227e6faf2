"""LOCOS: detect_single_trial of its behavioural detector, on prompts given as tokens."""

import os
import sys

sys.path.append(os.environ["PEER_SOURCE"])

import torch
from contract import answer
from locos.detectors.behavioral import detect_single_trial
from transformers import AutoModelForCausalLM, AutoTokenizer


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    hf = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"])
    hf(torch.tensor([[1] * 64]))

    def score(sample):
        scores, _ = detect_single_trial(
            hf, tokenizer, torch.tensor([sample["ids"]]), *sample["gold"],
            hf.config.num_hidden_layers, hf.config.num_attention_heads, "sdpa",
            max_decode_steps=sample["n_answer"], stop_token_ids=set(inputs["stop_ids"]),
        )  # fmt: skip
        return [float(value) for layer in scores for value in layer]

    return lambda: [score(sample) for sample in inputs["samples"]]


answer(prepare)
