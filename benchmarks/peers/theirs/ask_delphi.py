"""delphi: activations cached by LatentCache, and by pool_max_activation_windows the windows in which a feature is most active."""

import torch
from contract import answer
from delphi.latents import LatentCache, pool_max_activation_windows
from sae_lens import SAE
from transformers import AutoModelForCausalLM


def prepare(inputs):
    """Loads the model and returns the work to be timed."""
    hf = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32).eval()
    sae = SAE.load_from_disk(inputs["dictionary"], device="cpu")
    windows, skip = torch.tensor(inputs["windows"]), inputs["skip"]
    n_windows, length = windows.shape
    hookpoint = f"model.layers.{inputs['layer']}"

    def best(cache, feature):
        """The highest activation in each window, largest first; 0 where the feature is not active."""
        _, activations = pool_max_activation_windows(
            cache[1][feature], windows, cache[0][feature][:, 0], cache[0][feature][:, 1], length
        )
        found = activations.amax(dim=1).tolist()
        return found + [0.0] * (n_windows - len(found))

    def work():
        latents = LatentCache(hf, {hookpoint: sae.encode}, batch_size=1)
        latents.run(windows.numel(), windows)
        places, activations = latents.cache.latent_locations[hookpoint], latents.cache.latent_activations[hookpoint]
        counted = places[:, 1] >= skip
        places, activations = places[counted], activations[counted]
        order = places[:, 2].argsort(stable=True)
        sizes = places[:, 2].bincount(minlength=sae.cfg.d_sae).tolist()
        cache = places[order].split(sizes), activations[order].split(sizes)
        return [best(cache, feature) if sizes[feature] else [0.0] * n_windows for feature in range(sae.cfg.d_sae)]

    return work


answer(prepare)
