"""All summary tables of a critical-token run, put together from its measured tables."""

from collections.abc import Mapping

import pandas as pd

from interp.tables import Tables, empty
from probes.critical_tokens.agreement import summarise_agreement
from probes.critical_tokens.audit import audit_all
from probes.critical_tokens.cost import summarise_cost
from probes.critical_tokens.plan import calibration_problem_ids, usable_levels
from probes.critical_tokens.replacement import summarise_replacement
from probes.critical_tokens.settings import CriticalTokensSettings
from probes.critical_tokens.summarise import (
    critical_tokens,
    summarise_candidates,
    summarise_levels,
    summarise_positions,
)
from probes.critical_tokens.tables import SCHEMAS


def summarise_all(settings: CriticalTokensSettings, model: str, measured: Tables) -> Mapping[str, pd.DataFrame]:
    """Returns every summary table; those that have nothing to say are empty, with their columns."""
    responses = measured["trajectories"]
    usable = usable_levels(settings, model, responses)
    critical = critical_tokens(settings, measured)
    tables = {
        "levels": summarise_levels(responses, usable, calibration_problem_ids(settings), settings.seed),
        "positions": summarise_positions(settings, measured),
        "candidates": summarise_candidates(settings, measured),
        "critical": critical,
        "replacement": summarise_replacement(measured, critical, settings.seed),
        "agreement": summarise_agreement(measured, critical, settings.seed),
        "cost": summarise_cost(measured, settings.rule_rollouts),
    }
    tables = {name: table if len(table) else empty(SCHEMAS[name]) for name, table in tables.items()}
    return {**tables, "audit": audit_all(settings, measured, tables)}
