"""Which tools are compared, where each comes from, pinned, and what of it is asked."""

from dataclasses import dataclass
from typing import Any

TORCH, TRANSFORMERS, DIFFUSERS = "torch==2.13.0", "transformers==5.23.0", "diffusers==0.42.1"
"""All environments compute with these, which are those of constraints.txt."""


@dataclass(frozen=True)
class Peer:
    """One question put to one tool. Its script is theirs/ask_<script>.py, ours the function of that name in ours.py."""

    name: str
    script: str
    quantity: str
    """What is compared, with its unit."""
    tolerance: float
    """The largest difference that is rounding."""
    requirements: tuple[str, ...] = ()
    """What its virtual environment holds beside torch; empty where the toolkit's own dependencies have the tool."""
    repository: str = ""
    """A git address, for tools without a release: cloned at `commit`, nothing of it installed."""
    commit: str = ""
    alone: tuple[str, ...] = ()
    """Packages installed without what they depend on, which `requirements` then names as far as it is used."""
    differs: str = ""
    """Where the tool means something else by the same word: what explains the difference."""

    @property
    def version(self) -> str:
        """The tool's release, or the first digits of its commit; empty where the toolkit's dependencies have it."""
        return self.commit[:12] or " ".join((*self.alone, *self.requirements)[:1])


LOCOS: Any = {
    "repository": "https://github.com/aryopg/locos",
    "commit": "2f162f5ac447d754caf1615c977b4a30969f5117",
    "requirements": (TRANSFORMERS, "rouge-score==0.1.2", "rich==14.2.0", "datasets==5.2.0"),
}

DELPHI = (
    TRANSFORMERS, "sae-lens==6.54.12", "orjson==3.13.0", "blobfile==3.3.0", "simple-parsing==0.1.9", "jaxtyping==0.3.11",
    "sentence-transformers==6.2.0", "faiss-cpu==1.15.1", "asyncer==0.0.18",
)  # fmt: skip
"""delphi without vllm and bitsandbytes, which only its explainer needs."""
DAAM: Any = {
    "alone": ("daam==0.2.0",),
    "requirements": (TRANSFORMERS, DIFFUSERS, "scipy==1.17.1", "matplotlib==3.11.2", "spacy==3.8.18"),
}
"""daam beside today's diffusers: it asks for 0.21.2, which cannot read the model."""
KVPRESS = ("kvpress==0.5.5",)
"""It asks for transformers below 5.3, so its environment computes with that, not with the toolkit's."""
PTS: Any = {
    "repository": "https://github.com/codelion/pts",
    "commit": "f5750d68249f62090e25d86eaede3081ceb95a3f",
    "requirements": (TRANSFORMERS, "datasets==5.2.0", "scikit-learn==1.9.1"),
}

PEERS = (
    Peer("minicons", "minicons", "surprisal of a token, nats", 1e-4, ("minicons==0.3.39", TRANSFORMERS)),
    Peer(
        "surprisal",
        "surprisal",
        "surprisal of a token where no text ends, nats",
        1e-4,
        ("surprisal==0.1.7", TRANSFORMERS),
    ),
    Peer(
        "lm-eval",
        "lm_eval",
        "log-likelihood of a text, nats",
        1e-3,
        ("lm-eval==0.4.13", TRANSFORMERS, "accelerate==1.15.0"),
    ),
    Peer("TransformerLens detect_head", "detect_head", "induction score of a head", 1e-4),
    Peer("SAELens encode", "saelens", "activation of a feature, of its pairs with tokens", 1e-3),
    Peer(
        "Retrieval_Head, its own functions",
        "retrieval_head",
        "copy score of a head",
        1e-9,
        (TRANSFORMERS, "rouge-score==0.1.2"),
        "https://github.com/nightdessert/Retrieval_Head",
        "3ac171a6f71ce7ef1cda57d4215c390fb6ab51f2",
    ),
    Peer("LOCOS, behavioural detector", "locos_behavioral", "copy score of a head", 1e-6, **LOCOS),
    Peer("LOCOS, logit contribution", "locos_contribution", "logit contribution of a head", 1e-3, **LOCOS),
    Peer(
        "delphi",
        "delphi",
        "highest activation of a feature in each of its windows",
        1e-3,
        DELPHI,
        alone=("eai-delphi==0.1.3",),
    ),
    Peer(
        "attention-map-diffusers",
        "attention_map_diffusers",
        "attention of an image position to a token, by resolution",
        1e-5,
        (TRANSFORMERS, DIFFUSERS, "accelerate==1.15.0"),
        alone=("attention-map-diffusers==1.0.0",),
    ),
    Peer("daam, its raw maps", "daam", "attention of an image position to a token, largest resolution", 1e-5, **DAAM),
    Peer(
        "daam, its map of a word",
        "daam_words",
        "attention of a pixel to a word",
        1e-5,
        **DAAM,
        differs="daam leaves out the middle block and clips negative values in each head and layer; the toolkit enlarges the "
        "mean of all layers of a resolution and clips once",
    ),
    *(
        Peer(
            f"kvpress {press}",
            f"kvpress_{script}",
            "surprisal of a token, a quarter of the keys kept, nats",
            1e-3,
            KVPRESS,
        )
        for script, press in (
            ("knorm", "KnormPress"),
            ("keydiff", "KeyDiffPress"),
            ("tova", "TOVAPress"),
            ("snapkv", "SnapKVPress"),
            ("expected", "ExpectedAttentionPress"),
        )
    ),
    Peer("pts, one drop", "pts_one_drop", "change of V at a pivotal token, V known", 1e-9, **PTS),
    Peer(
        "pts, any trajectory",
        "pts_random",
        "change of V at a pivotal token, V known",
        1e-9,
        **PTS,
        differs="pts bisects a span only if V differs between its two ends, so it misses tokens whose changes cancel",
    ),
)
