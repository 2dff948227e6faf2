"""The check at load: a family that is read right passes in every precision, and each way of being wrong is refused by its name."""

import json
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, eager_attention_forward

from interp.errors import RunError, UserError
from interp.models.check import check as checking
from interp.models.check.check import check, check_at_load
from interp.models.check.verdicts import Verdict, kept_verdicts
from interp.models.language.attention_function import ATTENTION
from interp.models.language.logit_directions import LogitDirections
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History
from interp.models.language.recording import AttentionRows, HeadOutputs, TopKeys, Weights
from tests.reading import IDS, close
from tests.tiny_models import FAMILIES, tiny

ALL = ("reading", "forks", "ragged", "padding", "heads", "head_outputs", "edits", "contributions")


def refused(model: LanguageModel) -> set[str]:
    model.obey(check(model))
    assert model.verdicts is not None
    assert set(model.verdicts.by_name) == set(ALL)
    return {name for name, verdict in model.verdicts.by_name.items() if verdict.refused is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_is_read_right_passes_in_every_precision(family, dtype):
    model = tiny(family)
    model.hf.to(dtype)
    assert refused(model) == set()


# ---------------------------------------------------------------------- one wrong family for each verdict


class Faults:
    """What may be wrong with an attention module: each method is a step of Llama's, right as it stands."""

    def scaling(self, module: Any, cache: Any) -> float:
        return module.scaling

    def query(self, query: torch.Tensor, cache: Any) -> torch.Tensor:
        return query

    def value(self, value: torch.Tensor) -> torch.Tensor:
        return value

    def mask(self, mask: Any, module: Any, cache: Any) -> Any:
        return mask

    def weights(self, weights: torch.Tensor) -> torch.Tensor:
        return weights

    def output(self, output: torch.Tensor) -> torch.Tensor:
        return output

    def project(self, output: torch.Tensor, module: Any) -> torch.Tensor:
        return module.o_proj(output)


def with_faults(faults: Faults) -> LanguageModel:
    model = tiny("llama")

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **options):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            project(hidden_states).view(shape).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        query = faults.query(query, past_key_values)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        value = faults.value(value)
        name = self.config._attn_implementation
        call = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
        mask = faults.mask(attention_mask, self, past_key_values)
        output, weights = call(
            self, query, key, value, mask, scaling=faults.scaling(self, past_key_values), dropout=0.0
        )
        output = faults.output(output.reshape(*hidden_states.shape[:-1], -1))
        return faults.project(output, self), None if weights is None else faults.weights(weights)

    for module in model.attention_modules:
        module.forward = MethodType(forward, module)
    return model


class ChangesValuesAfterTheCache(Faults):
    """Rows that share a trunk take it as it was written: what is done to it afterwards is lost."""

    def value(self, value):
        return 1.5 * value


class ReadsTheCachesLength(Faults):
    """A temperature that grows with the position, counted from the cache: it has one length for rows of several."""

    def query(self, query, cache):
        read = 0 if cache is None else cache.get_seq_length()
        positions = read + torch.arange(query.shape[2], dtype=query.dtype)
        return query * (1 + positions / 8)[:, None]


class CountsThePassAlone(Faults):
    """A temperature that grows with the position, counted from the first token of the pass."""

    def query(self, query, cache):
        positions = torch.arange(query.shape[2], dtype=query.dtype)
        return query * (1 + positions / 8)[:, None]


class KeepsNothing(Faults):
    """No cache but its own will do."""

    def query(self, query, cache):
        if cache is not None:
            raise ValueError("this model keeps a cache of its own")
        return query


class LosesThePaddingMask(Faults):
    def mask(self, mask, module, cache):
        return None if cache is None and module.config._attn_implementation == ATTENTION else mask


class ReportsOtherWeights(Faults):
    def weights(self, weights):
        return weights.roll(1, dims=1)


class GatesTheHeads(Faults):
    def output(self, output):
        return output * torch.linspace(0.2, 1, output.shape[-1])


class NormsTheHeads(Faults):
    def output(self, output):
        return (
            output / (output.square().mean(-1, keepdim=True) + 1e-6).sqrt() * torch.linspace(0.2, 1, output.shape[-1])
        )


class AddsToTheHeads(Faults):
    """What enters the output projection is no multiple of what the heads made."""

    def output(self, output):
        return output + torch.linspace(0.2, 1, output.shape[-1])


class ScalesAroundTheProjection(Faults):
    """In the toolkit's attention call twice a head's output enters the projection, and half of what comes out counts."""

    def project(self, output, module):
        factor = 2 if module.config._attn_implementation == ATTENTION else 1
        return module.o_proj(output * factor) / factor


class ProjectsInSlices(Faults):
    """As models that were cut up for several GPUs do: hooks on the projection see one half of what is written through it."""

    def project(self, output, module):
        return (module.o_proj(output) + torch.nn.functional.linear(output, module.o_proj.weight)) / 2


class ProjectsOnItsOwn(Faults):
    """The projection's weight is used and the projection is never called."""

    def project(self, output, module):
        return torch.nn.functional.linear(output, module.o_proj.weight)


class ProjectsTwice(Faults):
    """The projection is called on something else first, and what comes of that is thrown away."""

    def project(self, output, module):
        module.o_proj(output.roll(1, dims=-1))
        return module.o_proj(output)


class ScoresOtherwise(Faults):
    """Another temperature in the toolkit's attention call than in transformers'."""

    def scaling(self, module, cache):
        return module.scaling * (2 if module.config._attn_implementation == ATTENTION else 1)


class OddNorm(torch.nn.Module):
    """Divides by the root mean square to the power .9."""

    def forward(self, x):
        return x / x.square().mean(-1, keepdim=True).sqrt() ** 0.9


def with_another_norm() -> LanguageModel:
    model = tiny("llama")
    model.hf.model.norm = OddNorm()
    return model


WRONG: dict[str, tuple[Callable[[], LanguageModel], set[str]]] = {
    "forks": (lambda: with_faults(CountsThePassAlone()), {"forks", "ragged"}),
    "padding": (lambda: with_faults(LosesThePaddingMask()), {"padding"}),
    "heads": (lambda: with_faults(ReportsOtherWeights()), {"heads"}),
    "head_outputs": (lambda: with_faults(ScalesAroundTheProjection()), {"head_outputs", "contributions"}),
    "edits": (lambda: with_faults(ProjectsInSlices()), {"edits"}),
    "never projected": (lambda: with_faults(ProjectsOnItsOwn()), {"heads", "head_outputs", "edits", "contributions"}),
    "projected twice": (lambda: with_faults(ProjectsTwice()), {"head_outputs", "edits", "contributions"}),
    "added": (lambda: with_faults(AddsToTheHeads()), {"contributions"}),
    "contributions": (with_another_norm, {"contributions"}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_one_wrong_layer_is_not_lost_among_seven_right_ones_in_any_precision(dtype):
    model = tiny("llama", num_hidden_layers=8)
    attention: Any = model.attention_modules[5]
    width = attention.o_proj.in_features
    attention.gate = torch.nn.Linear(width, width, bias=False)
    torch.nn.init.normal_(attention.gate.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    attention.register_forward_pre_hook(
        lambda module, _, options: setattr(module, "entered", options["hidden_states"]), with_kwargs=True
    )
    attention.o_proj.register_forward_pre_hook(
        lambda _, given: (given[0] * torch.sigmoid(attention.gate(attention.entered)),)
    )
    model.hf.to(dtype)
    assert "contributions" in refused(model)


def padded(model: LanguageModel) -> None:
    mask = torch.tensor([[0, 0, 1, 1]])
    model.hf(input_ids=torch.tensor([IDS[:4]]), attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))


def opened(context: Any) -> None:
    with context:
        pass


USES: dict[str, Callable[[LanguageModel], Any]] = {
    "reading": lambda model: model.prefix(IDS),
    "forks": lambda model: model.extend(model.prefix(IDS[:9]).fork(2), [IDS[9:12], IDS[20:23]]),
    "ragged": lambda model: model.extend(model.prefix().fork(2), [IDS[:9], IDS[:12]]),
    "padding": padded,
    "heads": lambda model: opened(model.record(torch.tensor([[3]]), TopKeys(1))),
    "head_outputs": lambda model: opened(model.record(torch.tensor([[3]]), HeadOutputs())),
    "edits": lambda model: opened(model.edit_heads([(0, 1)])),
    "contributions": LogitDirections,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_its_name_and_the_rest_stays_usable(name):
    build, names = WRONG[name]
    model = build()
    assert refused(model) == names
    for use, do in USES.items():
        if use in names:
            with pytest.raises(UserError, match=f"^tiny-llama fails the check at load on `{use}` \\(.*\\): .*\\.$"):
                do(model)
        else:
            do(model)
    # Surprisal reads whole what cannot be read on, and is right in any case.
    rows = [IDS[:20], IDS[5:35]]
    found = model.surprisal(rows)
    for row, ids in enumerate(rows):
        with torch.no_grad():
            logits = build().hf(torch.tensor([ids]), use_cache=False).logits[0]
        wanted = -torch.log_softmax(logits, dim=-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        close(found[row, 1 : len(ids)], wanted)


@pytest.mark.parametrize(
    ("fault", "limits"), [(ChangesValuesAfterTheCache, ("copies",)), (ReadsTheCachesLength, ("level",))]
)
def test_a_model_that_cannot_share_keys_or_mix_places_is_read_right_another_way(fault, limits):
    model = with_faults(fault())
    assert refused(model) == set()
    assert model.verdicts is not None
    assert model.verdicts.limits == limits
    trunk = model.prefix(IDS[:9])
    branches = trunk.fork(2)
    rows = [IDS[:9] + IDS[9:12], IDS[:9] + IDS[20:27]]
    found = model.extend(branches, [row[9:] for row in rows])
    for row, ids in enumerate(rows):
        with torch.no_grad():
            wanted = with_faults(fault()).hf(torch.tensor([ids]), use_cache=False).logits[0, -1]
        close(found[row, 0], wanted)


@pytest.mark.parametrize("fault", [GatesTheHeads, NormsTheHeads])
def test_gates_and_norms_between_heads_and_projection_are_part_of_contributions(fault):
    model = with_faults(fault())
    assert refused(model) == set()


def test_a_model_that_takes_no_cache_of_ours_is_read_whole_with_its_heads():
    model = with_faults(KeepsNothing())
    assert refused(model) == {"forks", "ragged"}
    plain = with_faults(Faults())
    rows = [IDS[:20], IDS[5:35]]
    queries = torch.arange(20)[None]
    with model.record(queries, Weights(30)) as found, model.edit_heads([(1, 2)]):
        logits = model.extend(model.rows(2), rows, logits="all")
    with plain.record(queries, Weights(30)) as wanted, plain.edit_heads([(1, 2)]):
        unharmed = plain.extend(plain.rows(2), rows, logits="all")
    for row, ids in enumerate(rows):
        close(logits[row, : len(ids)], unharmed[row, : len(ids)])
    close(found["weights"], wanted["weights"])
    with model.record(queries, Weights(30)) as without_logits, model.edit_heads([(1, 2)]):
        model.extend(model.rows(2), rows, logits="none")
    close(without_logits["weights"], wanted["weights"])
    reason = r"^tiny-llama fails the check at load on `forks` \(llama takes no cache but its own, so every text is read whole\): use what"
    with pytest.raises(UserError, match=reason):
        model.prefix(IDS)
    history = model.rows(1)
    model.extend(history, [IDS[:9]])
    with model.edit_heads([(1, 2)]), pytest.raises(UserError, match="open it before the first token"):
        model.extend(history, [IDS[9:12]])


def test_rows_whose_weight_a_sink_takes_whole_are_rows_of_nothing_and_right():
    model = tiny("granite_swa", **dict(FAMILIES["llama"], layer_types=["full_attention"] * 3))
    for module in model.attention_modules:
        module.sinks.data[:2] = 200.0  # type: ignore[union-attr, operator]
    assert refused(model) == set()
    with model.record(torch.arange(12)[None], Weights(12)) as recording:
        model.extend(model.rows(1), [IDS[:12]], logits="none")
    assert not recording["weights"][:, 0, :2].any()
    assert recording["weights"][:, 0, 2:].any()


def test_rows_that_are_too_small_as_a_whole_are_refused_where_no_sink_takes_the_rest(monkeypatch):
    whole = AttentionRows.weights.func  # type: ignore[attr-defined]
    monkeypatch.setattr(AttentionRows, "weights", property(lambda rows: 0.9 * whole(rows)))
    assert refused(tiny("llama")) == {"heads", "contributions"}


@pytest.mark.parametrize("family", ["llama", "jetmoe"])
def test_a_model_whose_heads_cannot_be_looked_at_is_read_whole_by_transformers(family):
    if family == "llama":
        model = with_faults(ScoresOtherwise())
        reason = r"^tiny-llama \(llama\) is not read right through this toolkit's attention call \(off by .*name another model\.$"
    else:
        model = tiny("jetmoe")  # its output projections are experts
        reason = r"^JetMoeForCausalLM keeps its 3 attention layers where this toolkit does not look"
    assert refused(model) == {"heads", "head_outputs", "edits", "contributions"}
    for ask in (lambda: model.geometry, lambda: model.prefix(IDS), lambda: opened(model.edit_heads([(0, 0)]))):
        with pytest.raises(UserError, match=reason):
            ask()
    assert isinstance(model.rows(1), History)
    with torch.no_grad():
        wanted = model.hf(torch.tensor([IDS])).logits
    close(model.extend(model.rows(1), [IDS], logits="all"), wanted)


def test_a_model_that_sees_the_future_is_refused():
    model = tiny("llama")
    for module in model.attention_modules:
        own: Any = module.forward
        module.forward = lambda hidden_states, *given, own=own, **options: own(
            hidden_states - hidden_states.mean(dim=1, keepdim=True), *given, **options
        )
    with pytest.raises(RunError, match=r"^tiny-llama \(llama\) sees the future: .* name a causal language model\.$"):
        check(model)


# ---------------------------------------------------------------------- verdicts are kept


def test_a_check_is_made_once_for_the_same_weights_and_again_when_its_file_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    made = []
    monkeypatch.setattr(checking, "check", lambda model: made.append(model) or check(model))
    for _ in range(2):
        check_at_load(tiny("llama"))
    assert len(made) == 1
    check_at_load(tiny("llama", seed=1))
    assert len(made) == 2
    [path] = [path for path in (tmp_path / "checks").iterdir() if '"revision": "0"' in path.read_text()]
    whole = path.read_text()
    for damaged in (whole[:40], "[]", json.dumps(json.loads(whole) | {"verdicts": {}}), "{\x00"):
        path.write_text(damaged)
        check_at_load(tiny("llama"))
        assert path.read_text() == whole
    assert len(made) == 6
    kept = kept_verdicts(tiny("llama").identity, "cpu")
    assert kept is not None
    assert kept.by_name["forks"] == check(tiny("llama")).by_name["forks"]
    assert kept_verdicts(tiny("llama").identity, "cuda:0") is None
    assert not list((tmp_path / "checks").glob("*.part"))


def test_a_cache_folder_that_cannot_be_written_only_costs_the_check(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "file"))
    model = tiny("llama")
    check_at_load(model)
    assert model.verdicts is not None


def test_a_verdict_in_words():
    assert Verdict(None, 1e-6, 5e-3).in_words() == "right (off by 1.0e-06 of the spread, 5.0e-03 allowed)"
    assert Verdict("off by 2").in_words() == "refused: off by 2"
