"""Which tokens of a phrase carry it and which are redundant, said by a saved rule from their vectors: nothing is drawn."""

from pathlib import Path

import numpy as np
import pandas as pd

from interp.errors import ArgumentError
from interp.models.image import ImageModel
from probes.t2i_flow.linear_rule import read_rules


def predict_representative(
    model: ImageModel, text: str, phrase: str, path: Path | str, occurrence: int | None = None
) -> pd.DataFrame:
    """Returns one row for each token of a phrase: encoder, position, token, log_odds, and representative (above 0).

    `path` is the redundancy_predictor.json of a finished run on the same model. It was fitted on items encoded alone ("a red
    disc"). `occurrence` counts from 0 where the phrase comes several times in the text.
    Raises ArgumentError for a phrase that is not there, a file that is no predictor, or one of another model.
    """
    fitted_on, rules = read_rules(Path(path))
    positions, tokens = model.spans(text, phrase, occurrence), model.tokens(text)
    vectors = model.encode([text]).sequence[0].float().cpu().numpy().astype(float)
    unknown = {tokens[position].encoder for position in positions} - set(rules)
    if fitted_on != model.identity.name or unknown or any(len(r.mean) != vectors.shape[1] for r in rules.values()):
        raise ArgumentError(
            f"{path} was fitted on {fitted_on} and cannot be used on {model.identity.name}: name the file of a run on that model."
        )
    rows = []
    for position in positions:
        token = tokens[position]
        log_odds = float(rules[token.encoder].log_odds(vectors[position][None])[0])
        rows.append(
            {
                "encoder": token.encoder,
                "position": position,
                "token": token.token,
                "log_odds": log_odds,
                "representative": log_odds > 0,
            }
        )
    return pd.DataFrame(rows).astype({"position": np.int64})
