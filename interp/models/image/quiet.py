"""What diffusers says while it draws, and no user could mend."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_advice() -> Iterator[None]:
    """Silences what is said whenever a pipeline brings its decoder to float32 for a picture, as SDXL does in float16."""
    logger = logging.getLogger("diffusers.models.modeling_utils")

    def wanted(record: logging.LogRecord) -> bool:
        return "should be kept in float32" not in record.getMessage()

    logger.addFilter(wanted)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`upcast_vae` is deprecated", FutureWarning)
            yield
    finally:
        logger.removeFilter(wanted)
