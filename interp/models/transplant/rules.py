"""Names of the rules by which a token's row is made from its pieces. Imports no torch."""

from typing import Literal, get_args

Rule = Literal["random", "mean", "first", "last", "local", "local+global", "spelling"]
"""`random`: drawn from a Gaussian with each dimension's mean and variance. `mean`: of the pieces' rows. `first`, `last`: that
piece's row. `local`: pieces weighted by length and by similarity to their mean. `local+global`: 0.7 of that and 0.3 of the three
tokens whose rows are nearest to the pieces' mean. `spelling`: 0.3 of `local` and 0.7 of the five tokens that are spelled most alike."""
RULES: tuple[Rule, ...] = get_args(Rule)
