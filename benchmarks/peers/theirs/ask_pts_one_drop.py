"""pts: pivotal tokens of trajectories with one drop."""

from contract import answer
from searching import pivotal_changes

answer(lambda inputs: lambda: [pivotal_changes(values) for values in inputs["chains_one_drop"]])
