"""Retrieval_Head: its class's own decode, retrieval_calculate and find_needle_idx, on prompts given as tokens.

The script ends its imports with patched modelling files of transformers 4.37, so only the class is taken from its source.
"""

import ast
import json
import os
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from contract import answer
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache


def tester_class():
    """The class, from the source as it stands."""
    source = (Path(os.environ["PEER_SOURCE"]) / "retrieval_head_detection.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = {
        "np": np,
        "torch": torch,
        "defaultdict": defaultdict,
        "json": json,
        "datetime": datetime,
        "timezone": timezone,
    }
    exec(compile(tree, "retrieval_head_detection.py", "exec"), names)  # noqa: S102
    return names["LLMNeedleHaystackTester"]


class Model:
    """The model with the keyword that only their patched files know taken away."""

    def __init__(self, hf):
        self.hf = hf

    def __call__(self, attn_mode=None, **options):
        """One forward pass."""
        return self.hf(**options)


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    hf = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32, attn_implementation="eager").eval()
    kind = tester_class()
    tester = kind.__new__(kind)
    tester.enc = AutoTokenizer.from_pretrained(inputs["model"])
    tester.layer_num, tester.head_num = hf.config.num_hidden_layers, hf.config.num_attention_heads
    tester.model_to_test = Model(hf)
    hf(torch.tensor([[1] * 64]))

    @torch.no_grad()
    def score(sample):
        tester.prompt_ids = torch.tensor(sample["ids"])
        tester.needle_start, tester.needle_end = sample["gold"]
        hf.set_attn_implementation("sdpa")
        outputs = hf(
            input_ids=tester.prompt_ids[None, :-1], past_key_values=DynamicCache(config=hf.config), use_cache=True
        )
        hf.set_attn_implementation("eager")
        _, scores = tester.decode(outputs, tester.prompt_ids[-1], sample["n_answer"])
        return [float(head[0]) for layer in scores for head in layer]

    return lambda: [score(sample) for sample in inputs["samples"]]


answer(prepare)
