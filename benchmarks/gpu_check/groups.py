"""All groups, in the order in which they are measured: what matters most, and takes least, comes first."""

from benchmarks.gpu_check import images, kernels, language, runs
from benchmarks.gpu_check.sizes import FULL, TINY
from benchmarks.gpu_check.verdicts import Group


def groups(*, tiny: bool, profile: bool) -> list[Group]:
    """Returns the checks at the sizes of real models, or tiny."""
    sizes = TINY if tiny else FULL
    return [
        language.group("llama", "llama2-7b", sizes.llama),
        kernels.group("llama3-8b, two layers", sizes.grouped, asked=profile),
        runs.group(sizes.runs),
        images.group("sdxl", "SDXL", sizes.pictures),
        images.group("flux", "FLUX.1", sizes.pictures),
        language.group("gpt_oss", "gpt-oss-20b", sizes.gpt_oss),
    ]
