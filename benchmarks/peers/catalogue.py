"""Which tools are compared, where each comes from, pinned, and what of it is asked."""

from dataclasses import dataclass

TORCH, TRANSFORMERS = "torch==2.13.0", "transformers==5.23.0"
"""All environments compute with the torch and transformers of constraints.txt."""


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


LOCOS = {
    "repository": "https://github.com/aryopg/locos",
    "commit": "2f162f5ac447d754caf1615c977b4a30969f5117",
    "requirements": (TRANSFORMERS, "rouge-score==0.1.2", "rich==14.2.0", "datasets==5.2.0"),
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
    Peer("LOCOS, behavioural detector", "locos_behavioral", "copy score of a head", 1e-6, **LOCOS),  # type: ignore[arg-type]
    Peer("LOCOS, logit contribution", "locos_contribution", "logit contribution of a head", 1e-3, **LOCOS),  # type: ignore[arg-type]
)
