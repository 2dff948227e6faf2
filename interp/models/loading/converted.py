"""GGUF files, expanded once to a folder of float32 safetensors with a tokenizer, which then loads like any other folder."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from interp.assets import ASSETS, cache_folder, fetch_asset, sha256_once
from interp.errors import ArgumentError, RunError

LOG = logging.getLogger(__name__)

LLAMA_3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""Llama 3.1's and 3.2's rotary scaling but for its factor: a GGUF file holds only the numbers that it comes to."""


def converted_asset(name: str) -> Path:
    """Returns the folder with a GGUF asset's weights as float32 safetensors, converted on the first call (about 15 s)."""
    asset = ASSETS[name]
    return _kept(fetch_asset(asset), f"{name}-{asset.sha256[:12]}", None)


def converted_gguf(file: Path) -> Path:
    """Returns the folder with a GGUF file's weights as float32 safetensors, converted on the first call.

    Raises ArgumentError for one part of several; RunError for a file that transformers cannot read, or reads only in part.
    """
    name = f"{file.stem}-{sha256_once(file)[:12]}"
    if (cache_folder() / "models" / name).is_dir():
        return _kept(file, name, None)
    return _kept(file, name, _Header.of(file))


@dataclass(frozen=True)
class _Header:
    """What a GGUF file says it holds."""

    file: Path
    n_weights: int
    rotary: tuple[float, ...] | None
    """What the wavelengths of a Llama 3 are multiplied by."""

    @classmethod
    def of(cls, file: Path) -> "_Header":
        """Reads the header; raises UserError for what would be read wrong."""
        import gguf

        try:
            reader = gguf.GGUFReader(file)
            fields = {name: field.contents() for name, field in reader.fields.items() if name.count(".tokens") == 0}
        except (ValueError, OSError, IndexError, KeyError) as error:
            raise RunError(f"{file} is not a GGUF file that can be read ({error}): fetch it again.") from error
        if fields.get("split.count", 1) > 1:
            raise ArgumentError(
                f"{file} is one of {fields['split.count']} parts: put them together with llama.cpp's llama-gguf-split --merge."
            )
        arch = fields.get("general.architecture")
        scaling = fields.get(f"{arch}.rope.scaling.type", "none")
        tables = [tensor for tensor in reader.tensors if tensor.name.startswith("rope_")]
        if (scaling != "none" and fields.get(f"{arch}.rope.scaling.factor", 1) != 1) or any(
            tensor.name != "rope_freqs.weight" for tensor in tables
        ):
            raise _left_out(file, "the scaling of its rotary embedding")
        n_weights = sum(int(tensor.n_elements) for tensor in reader.tensors if tensor not in tables)
        return cls(file, n_weights, tuple(float(x) for x in tables[0].data.ravel()) if tables else None)

    def configure(self, config: PreTrainedConfig) -> None:
        """Gives a configuration the rotary scaling of Llama 3, which transformers' reader leaves out.

        Raises RunError where the file's numbers are those of another scaling.
        """
        if self.rotary is None:
            return
        given: Any = config
        plain = dict(given.rope_parameters)
        given.rope_parameters = {**plain, **LLAMA_3, "factor": max(self.rotary)}
        size = getattr(given, "head_dim", None) or given.hidden_size // given.num_attention_heads
        unscaled = plain["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](given, torch.device("cpu"))
        ours = unscaled / scaled.double()
        theirs = torch.tensor(self.rotary, dtype=torch.float64)
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=1e-3):
            raise _left_out(self.file, "the scaling of its rotary embedding")

    def check(self, model: Any, report: dict[str, Any]) -> None:
        """Raises RunError unless the model has all weights of the file, and no others."""
        read = sum(weight.numel() for weight in model.parameters()) + sum(
            buffer.numel() for name, buffer in model.named_buffers() if name in model.state_dict()
        )
        if report["missing_keys"] or report["mismatched_keys"] or read != self.n_weights:
            raise _left_out(self.file, f"{abs(self.n_weights - read) or len(report['missing_keys']):,} of its weights")


def _left_out(file: Path, what: str) -> RunError:
    return RunError(
        f"{file} cannot be read right: transformers' reader of GGUF files leaves out {what}; name the model that the file was made from."
    )


def _kept(gguf: Path, name: str, header: _Header | None) -> Path:
    """The folder of that name in the cache, made from the file when it is not there."""
    import filelock

    folder = cache_folder() / "models" / name
    size = "540 MB" if header is None else f"{4 * header.n_weights / 1e9:.2g} GB"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                if header is not None:
                    LOG.warning("%s is expanded once to float32 in %s: %s.", gguf.name, folder, size)
                with without_progress_bars():
                    _convert(gguf, folder, header)
    except OSError as error:
        raise RunError(
            f"The converted model cannot be written to {folder} ({error.strerror or error}): it needs {size}; set "
            "INTERP_CACHE to a folder with room."
        ) from error
    return folder


def _convert(gguf: Path, folder: Path, header: _Header | None) -> None:
    from transformers import GgufConfig

    workplace = Path(tempfile.mkdtemp(dir=folder.parent))
    # Without dequantize=True the weights load but cannot be saved.
    options: dict[str, Any] = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    try:
        if header is not None:
            options["config"] = _read(header, AutoConfig.from_pretrained)
            header.configure(options["config"])
            model, report = _read(header, AutoModelForCausalLM.from_pretrained, output_loading_info=True, **options)
            header.check(model, report)
            tokenizer = _read(header, AutoTokenizer.from_pretrained)
        else:
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **options)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model.save_pretrained(workplace)
        tokenizer.save_pretrained(workplace)
        workplace.rename(folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _read(header: _Header, reader: Any, **options: Any) -> Any:
    """What one of transformers' readers makes of the file; raises RunError in its words."""
    file = header.file
    try:
        return reader(file.parent, gguf_file=file.name, **options)
    except (ValueError, KeyError, RuntimeError, NotImplementedError, TypeError, AttributeError, ImportError) as error:
        first_line = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise RunError(
            f"{file} cannot be read by transformers ({first_line}): name the model that the file was made from."
        ) from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Silences the bars of transformers, which the runner's own would be lost among; downloads keep theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
