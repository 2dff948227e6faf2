"""The tables of the text-to-image flow experiment, in the order a reader wants them."""

from interp.tables import Schemas
from probes.t2i_flow.measured_tables import MEASURED
from probes.t2i_flow.summary_tables import SUMMARIES

SCHEMAS: Schemas = {"prompts": SUMMARIES["prompts"], "variants": MEASURED["variants"], **SUMMARIES, **MEASURED}
