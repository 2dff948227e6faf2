"""The model hub: what it says no with becomes one sentence, and a model from it is named by its commit."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory

from interp.errors import ArgumentError, RunError, UserError
from interp.models.loading.image import look_up_image
from interp.models.loading.language import load, look_up
from tests.tiny_models import tiny_hf
from tests.tiny_pipelines import save
from tests.tiny_tokenizers import word_level


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "tiny-llama"
    tiny_hf("llama").save_pretrained(folder)
    word_level().save_pretrained(folder)
    return folder


MODEL = "someone/delegated-401m"  # a name with the words of another refusal in it
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], None]]:
    """Stands in for the model hub: every request of the real client goes to the function given. Retries do not wait."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def answer_with(answer: Answer) -> None:
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(answer)))

    yield answer_with
    huggingface_hub.set_client_factory(default_client_factory)


def refusing(status: int, code: str | None = None) -> Answer:
    headers = {"X-Error-Code": code} if code else {}
    return lambda request: httpx2.Response(status, headers=headers, request=request)


def breaking(error: Exception) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error

    return answer


def serving(folder: Path) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if "/api/models/" in path and "/tree/" not in path:
            return httpx2.Response(200, json={"id": MODEL, "sha": COMMIT, "siblings": []}, request=request)
        file = folder / Path(path).name
        if not file.is_file():
            return refusing(404, "EntryNotFound")(request)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{file.name}"', "Content-Length": str(file.stat().st_size)}
        content = file.read_bytes() if request.method == "GET" else b""
        return httpx2.Response(200, headers=headers, content=content, request=request)

    return answer


UNREACHABLE = (RunError, "is not on this machine and the model hub cannot be reached: connect to it, or pass --model")
GATED = (RunError, "is gated: accept its licence on its hub page and set HF_TOKEN")
UNKNOWN = (ArgumentError, f"^The hub has no model {MODEL}: check the spelling, or set HF_TOKEN if it is private")
NO_REVISION = (ArgumentError, "has no revision step7: its hub page lists branches and tags")
HUB: dict[str, tuple[Answer, tuple[type[UserError], str]]] = {
    "gated, signed in": (refusing(403, "GatedRepo"), GATED),
    "gated, not signed in": (refusing(401, "GatedRepo"), GATED),
    "no such model, signed in": (refusing(404, "RepoNotFound"), UNKNOWN),
    "no such model, not signed in": (refusing(401), UNKNOWN),
    "no such revision": (refusing(404, "RevisionNotFound"), NO_REVISION),
    "no connection": (breaking(httpx2.ConnectError("Name or service not known")), UNREACHABLE),
    "a proxy in the way": (breaking(httpx2.ProxyError("403 Forbidden")), UNREACHABLE),
    "out of order": (refusing(503), UNREACHABLE),
}


@pytest.mark.parametrize(("answer", "expected"), HUB.values(), ids=HUB)
def test_what_the_hub_says_no_with_becomes_one_sentence(hub, answer, expected):
    hub(answer)
    kind, words = expected
    with pytest.raises(UserError, match=words) as caught:
        look_up(MODEL, revision="step7")
    assert type(caught.value) is kind
    assert MODEL in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_without_a_hub_the_sentence_names_the_model_that_needs_none(hub, monkeypatch):
    hub(breaking(AssertionError("the hub was asked")))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match=f"^{MODEL} {UNREACHABLE[1]}.*--model smollm2-135m, which needs no hub"):
        load(MODEL)


@pytest.mark.parametrize("revision", [None, "step7", COMMIT])
def test_a_hub_model_is_named_by_its_commit_online_and_later_offline(hub, saved, monkeypatch, revision):
    hub(serving(saved))
    identity = load(MODEL, revision=revision).identity
    assert (identity.name, identity.source, identity.revision) == ("someone--delegated-401m", MODEL, COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub(breaking(AssertionError("the hub was asked")))
    assert look_up(MODEL, revision=revision).identity == identity


def test_an_image_model_from_the_hub_is_named_by_its_commit(hub, tmp_path):
    hub(serving(save("sd", tmp_path / "tiny-sd")))
    facts = look_up_image(MODEL)
    assert (facts.identity.source, facts.identity.revision) == (MODEL, COMMIT)
    assert facts.model_type == "StableDiffusionPipeline"


def test_a_hub_model_that_is_no_pipeline_is_refused_as_an_image_model(hub, saved):
    hub(serving(saved))
    with pytest.raises(ArgumentError, match=f"^{MODEL} has no model_index.json, so it is not a diffusers pipeline"):
        look_up_image(MODEL)


@pytest.mark.parametrize(("answer", "expected"), HUB.values(), ids=HUB)
def test_the_hub_says_no_to_image_models_in_the_same_sentences(hub, answer, expected):
    hub(answer)
    kind, words = expected
    with pytest.raises(kind, match=words):
        look_up_image(MODEL, revision="step7")
