"""Measuring one unit: from a model to rows."""

from interp.experiments.experiment import WorkUnit
from interp.models.image import ImageModel
from probes.t2i_flow.item_units import measure_items
from probes.t2i_flow.lens_units import measure_lens
from probes.t2i_flow.plan import ItemsUnit, JudgeUnit, LensUnit, PromptsUnit, RepairUnit
from probes.t2i_flow.prompt_units import measure_prompts
from probes.t2i_flow.repair_units import measure_repairs
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.workbench import Tables, frame_of, judge_of


def measure_unit(settings: Settings, model: ImageModel, unit: WorkUnit) -> Tables:
    """Returns the unit's rows by table."""
    if isinstance(unit, JudgeUnit):
        return measure_judge(settings, model)
    if isinstance(unit, ItemsUnit):
        return measure_items(settings, model, unit)
    if isinstance(unit, PromptsUnit):
        return measure_prompts(settings, model, unit)
    if isinstance(unit, LensUnit):
        return measure_lens(settings, model, unit)
    assert isinstance(unit, RepairUnit)
    return measure_repairs(settings, model, unit)


def measure_judge(settings: Settings, model: ImageModel) -> Tables:
    """Returns `judge_truth`: what the judge says of rendered scenes."""
    from probes.t2i_flow.judge_check import judge_truth

    return frame_of(
        "judge_truth", judge_truth(judge_of(settings), settings.judge_check, settings.seed, model.identity.name)
    )
