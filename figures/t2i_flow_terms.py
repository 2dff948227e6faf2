"""What the figures of the text-to-image flow experiment call things, and how they show intervals."""

import pandas as pd

LEVELS = {
    "full": "whole text",
    "item": "the item",
    "last_token": "its last token",
    "last_word": "its last word's others",
    "first_words": "its first words",
    "other_words": "other words",
    "article": "articles",
    "bos": "beginning",
    "eos": "end",
    "pad": "padding",
    "clean": "nothing",
}
ARM_NAMES = {"paste": "item pasted", "random_paste": "pasted elsewhere", "attention": "context hidden"}
LEGEND_ABOVE = {"legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"}, "margin": {"t": 95}}
"""Between title and picture, where the names under it are long."""


def error_bars(rows: pd.DataFrame) -> dict:
    """Returns plotly's error bars for a table with estimate, ci_low and ci_high."""
    return {
        "type": "data",
        "symmetric": False,
        "array": rows["ci_high"] - rows["estimate"],
        "arrayminus": rows["estimate"] - rows["ci_low"],
    }
