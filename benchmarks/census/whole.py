"""An experiment gone through in memory: every unit of its plan measured, every table checked, summed up and put into sentences."""

import pandas as pd

from interp.experiments.experiment import Experiment
from interp.experiments.runner import check_usable
from interp.models.language.model import LanguageModel
from interp.models.loading.language import look_up
from interp.tables import Tables, checked, empty, named


def go_through(experiment: Experiment, model: LanguageModel) -> Tables:
    """Returns all tables of a run as the runner would store them; no page and no figure is made.

    Raises what a run raises.
    """
    facts = look_up(experiment.model, device="cpu", dtype=experiment.dtype)
    check_usable(experiment, facts)
    for needed in experiment.needs:
        model.needs(needed)
    schemas = experiment.schemas()
    measured = {name: empty(schema) for name, schema in schemas.items()}
    done: set[str] = set()
    while waiting := [unit for unit in experiment.plan(facts, measured) if unit.id not in done]:
        for unit in waiting:
            for name, frame in named(experiment.measure(model, unit), facts.name).items():
                measured[name] = pd.concat([measured[name], checked(frame, schemas[name])], ignore_index=True)
            done.add(unit.id)
    summed = named(experiment.summarise(facts, measured), facts.name)
    tables = {**measured, **{name: checked(frame, schemas[name]) for name, frame in summed.items()}}
    experiment.findings(tables)
    return tables
