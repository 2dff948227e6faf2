"""Runs with --lora: the tables are those of a pipeline that plain diffusers fused, and the command says what was added."""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from interp.experiments.__main__ import main
from interp.models.loading.image import load_image
from interp.models.loading.names import TRAINED
from probes.t2i_flow.experiment import T2IFlow

SMALL = [
    "--n-prompts",
    "2",
    "--n-items",
    "1",
    "--seeds",
    "1",
    "--steps",
    "2",
    "--parts",
    "in_item",
    "--judge-check",
    "0",
]


def write(file: Path, seed: int) -> str:
    """A LoRA on the cross-attention of the model that ships."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    unet = load_image("shapes-t2i", device="cpu").pipeline.unet
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            up, down = (
                torch.randn(*shape, generator=generator) for shape in ((len(module.weight), 2), (2, module.in_features))
            )
            tensors |= {f"unet.{name}.lora_B.weight": 0.2 * up, f"unet.{name}.lora_A.weight": 0.2 * down}
    save_file(tensors, file)
    return str(file)


def run(out: Path, *words: str) -> tuple[dict, dict[str, pd.DataFrame]]:
    assert main(["t2i_flow", *SMALL, "--device", "cpu", "--out", str(out), *words]) == 0
    (description,) = out.rglob("run.json")
    tables = {path.stem: pd.read_parquet(path) for path in description.parent.glob("tables/*.parquet")}
    return json.loads(description.read_text()), tables


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # diffusers expects an autoencoder of its own
def test_a_run_with_loras_measures_what_plain_diffusers_fused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [Path(write(tmp_path / f"style{seed}.safetensors", seed)).name for seed in (1, 2)]
    described, tables = run(tmp_path / "with", "--lora", f"{names[0]}:1.5", "--lora", names[1])
    folder = Path(shutil.copytree(TRAINED / "shapes-t2i", tmp_path / "fused"))
    pipeline = load_image("shapes-t2i", device="cpu").pipeline
    for name, scale in zip(names, (1.5, 1.0), strict=True):
        pipeline.load_lora_weights(name)
        pipeline.fuse_lora(lora_scale=scale)
        pipeline.unload_lora_weights()
    pipeline.unet.save_pretrained(folder / "unet")
    _, wanted = run(tmp_path / "without", "--model", str(folder))
    assert tables.keys() == wanted.keys()
    for name in tables:
        pd.testing.assert_frame_equal(tables[name].drop(columns="model"), wanted[name].drop(columns="model"))
    _, plain = run(tmp_path / "plain")
    assert any(not plain[name].drop(columns="model").equals(tables[name].drop(columns="model")) for name in tables)

    identity = described["model"]["identity"]
    assert identity["name"] == "shapes-t2i+style1@1.5+style2"
    assert identity["base"]["name"] == "shapes-t2i"
    assert [(one["name"], one["scale"]) for one in identity["loras"]] == [("style1", 1.5), ("style2", 1.0)]
    words = shlex.split(described["command"])
    at = words.index("--lora")
    assert words[at + 1 : at + 3] == [f"{names[0]}:1.5", names[1]]
    before = sorted(path.name for path in (tmp_path / "with").rglob("*.parquet"))
    assert main([*words[3:], "--out", str(tmp_path / "with")]) == 0  # nothing is measured anew
    assert sorted(path.name for path in (tmp_path / "with").rglob("*.parquet")) == before


def test_every_way_to_type_several_loras_means_the_same(monkeypatch):
    seen = []
    monkeypatch.setattr(T2IFlow, "run", lambda self, **options: seen.append(self.lora) or SystemExit(0))
    monkeypatch.setattr("interp.experiments.verbs.say_findings", lambda run: None)
    for words in (
        "--lora a b:2",
        "--lora a --lora b:2",
        "--lora=a --seeds 1 --lora b:2",
        "--lora a --seed 3 --lora=b:2",
    ):
        assert main(["t2i_flow", *words.split()]) == 0
    assert seen == [("a", "b:2")] * 4


def test_a_plan_counts_the_model_with_its_loras(tmp_path, capsys):
    file = write(tmp_path / "style.safetensors", 1)
    assert (
        main(["plan", "t2i_flow", *SMALL, "--device", "cpu", "--out", str(tmp_path / "out"), "--lora", f"{file}:0.5"])
        == 0
    )
    assert "t2i_flow on shapes-t2i+style@0.5" in capsys.readouterr().out
    assert main(["plan", "t2i_flow", "--lora", f"{file}:half"]) == 2
    assert "'half' in --lora" in capsys.readouterr().err
