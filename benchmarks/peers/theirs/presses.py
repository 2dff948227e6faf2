"""kvpress: surprisal of what follows a prompt whose cache a press has compressed, at the tokens' own positions."""

import torch
from transformers import AutoModelForCausalLM, DynamicCache


def surprisals_under(make_press):
    """Returns the `prepare` of a press, which is made with a compression ratio."""

    def prepare(inputs):
        model = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32).eval()
        n_prompt, press = inputs["kv_prompt_tokens"], make_press(1 - inputs["kv_budget"] / inputs["kv_prompt_tokens"])

        def nats(ids):
            cache = DynamicCache()
            with torch.no_grad(), press(model):
                model(torch.tensor([ids[:n_prompt]]), past_key_values=cache)
            found = []
            for place in range(n_prompt, len(ids) - 1):
                here = torch.tensor([place])
                with torch.no_grad():
                    logits = model(
                        torch.tensor([[ids[place]]]),
                        past_key_values=cache,
                        position_ids=here[None],
                        cache_position=here,
                    ).logits
                found.append(-torch.log_softmax(logits[0, -1], dim=-1)[ids[place + 1]].item())
            return found

        return lambda: [nats(inputs["samples"][0]["ids"])]

    return prepare
