"""Downloads from stand-ins of both hubs on this machine; the real ones are never asked."""

import contextlib
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from stand_in import COMMIT, Fault, StandIn, serving

import gemkit
from gemkit.checkpoint.hub import huggingface as fetch_hf
from gemkit.checkpoint.hub.fetch import CLIENTS, fetch
from gemkit.checkpoint.hub.handles import Handle, cached, locate, on_disk, parse_handle
from gemkit.checkpoint.hub.remote import RemoteFile, needed
from gemkit.errors import ModelNotFoundError, UsageError
from gemkit.model.variants import VARIANTS

WEIGHTS, VOCABULARY = bytes(range(256)) * 20, b"v" * 300
HF = {
    "config.json": b"{}", "tokenizer.model": VOCABULARY, "model.safetensors": WEIGHTS,
    "tokenizer.json": bytes(5 * 2**20), "README.md": b"#", "pytorch_model.bin": b"p" * 500,
    "original/consolidated.pth": b"p", "picture.png": b"i", "gemma-2b.gguf": b"g" * 500,
    "consolidated.safetensors": b"c" * 500, "pytorch_model.bin.index.json": b"{}",
}  # fmt: skip
KERAS = {
    "config.json": b"{}", "metadata.json": b"{}", "assets/tokenizer/vocabulary.spm": VOCABULARY,
    "model.weights.h5": WEIGHTS, "task.weights.h5": b"t" * 500, "image.png": b"i",
}  # fmt: skip


class Case(NamedTuple):
    """A handle whose model the stand-in has, and what gemkit needs of it."""

    handle: str
    needed: set[str]
    weights: str


CASES = {
    "hf": Case(
        "hf://google/gemma-2b", {"config.json", "tokenizer.model", "model.safetensors"},
        "model.safetensors",
    ),
    "kaggle": Case(
        "kaggle://google/gemma/keras/gemma_2b_en",
        {"config.json", "metadata.json", "assets/tokenizer/vocabulary.spm", "model.weights.h5"},
        "model.weights.h5",
    ),
}  # fmt: skip
BOTH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, nobody logged in, and no waiting between attempts."""
    for variable, folder in (("KAGGLEHUB_CACHE", "kaggle"), ("HF_HUB_CACHE", "hub")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    return tmp_path


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes both clients ask there."""
    from kagglesdk import kaggle_env

    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, url)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with serving() as stand_in:
        stand_in.models = {
            "google/gemma-2b": HF,
            "google/gemma/keras/gemma_2b_en/2": {"config.json": b"old"},
            "google/gemma/keras/gemma_2b_en/3": KERAS,
        }
        point_to(stand_in.url, monkeypatch)
        yield stand_in


def log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "kaggle_secret")


def said(handle: str, hub: str | None = None) -> str:
    """The line of the error."""
    with pytest.raises(ModelNotFoundError) as caught:
        fetch(handle, hub)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@BOTH
def test_only_what_is_needed_comes_and_is_found_again(
    hub: StandIn, case: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fetch(case.handle)
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == case.needed == set(hub.fetched())
    assert (folder / case.weights).read_bytes() == WEIGHTS
    assert hub.fetched()[-1] == case.weights
    assert capfd.readouterr() == ("", "")  # a bar is for terminals
    asked = len(hub.asked)
    assert locate(case.handle) == folder and len(hub.asked) == asked
    assert fetch(case.handle) == folder and len(hub.fetched()) == len(case.needed)


@BOTH
def test_a_handle_as_model_is_fetched(hub: StandIn, case: Case) -> None:
    assert cached(parse_handle(case.handle)) is None
    assert (locate(case.handle) / case.weights).is_file()


def test_a_fetched_model_is_the_same(hub: StandIn, small_model: Path) -> None:
    files = {path.name: path.read_bytes() for path in small_model.iterdir()}
    hub.models["me/small"] = files
    direct, fetched = gemkit.load(small_model), gemkit.load("hf://me/small@v1")
    assert fetched.base_hash == direct.base_hash and fetched.config == direct.config


@BOTH
def test_the_token_goes_along(hub: StandIn, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch)
    fetch(case.handle)
    sent = {asked.headers.get("authorization") for asked in hub.asked}
    assert f"Bearer {parse_handle(case.handle).hub}_secret" in sent


def test_a_revision_a_version_and_a_file(hub: StandIn) -> None:
    assert fetch("hf://google/gemma-2b@v1").name == COMMIT
    assert fetch(f"hf://google/gemma-2b@{COMMIT}").name == COMMIT
    assert fetch("hf://google/gemma-2b/gemma-2b.gguf").read_bytes() == HF["gemma-2b.gguf"]
    hub.models["google/gemma/gguf/2b/1"] = {"2b.gguf": WEIGHTS, "2b_it.gguf": b"i"}
    assert "name it, such as kaggle://google/gemma/gguf/2b/" in said(
        "kaggle://google/gemma/gguf/2b"
    )
    handle = "kaggle://google/gemma/gguf/2b/1/2b.gguf"
    assert fetch(handle) == locate(handle) and locate(handle).read_bytes() == WEIGHTS
    assert "no weights gemkit can read" in said("kaggle://google/gemma/keras/gemma_2b_en/2")
    assert "does not exist; expected safetensors" in said("hf://google/gemma-2b/none.gguf")


def test_listings_longer_than_a_page(hub: StandIn) -> None:
    hub.page_size = 2
    assert set(hub.models["google/gemma/keras/gemma_2b_en/3"]) > CASES["kaggle"].needed
    folder = fetch(CASES["kaggle"].handle)
    assert {path.name for path in folder.iterdir()} > {"model.weights.h5", "metadata.json"}


@BOTH
def test_a_download_goes_on_where_it_broke_off(
    hub: StandIn, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("kagglehub.clients.CHUNK_SIZE", 1000)
    hub.faults = [
        Fault(f"/storage/google/gemma/keras/gemma_2b_en/3//{case.weights}", 200, cut=2000, times=1),
        Fault(f"{COMMIT}/{case.weights}", 200, cut=2000, times=1),
        Fault(f"{COMMIT}/{case.weights}", 503),
    ]
    assert "what has come is kept" in said(case.handle)
    assert cached(parse_handle(case.handle)) is None
    hub.faults, hub.asked = [], []
    assert (fetch(case.handle) / case.weights).read_bytes() == WEIGHTS
    assert hub.fetched().count("config.json") == 0
    assert [a.headers["range"] for a in hub.asked if "range" in a.headers] == ["bytes=2000-"]


def test_what_came_damaged_is_thrown_away(hub: StandIn, caches: Path) -> None:
    handle = parse_handle(CASES["hf"].handle)
    listing = fetch_hf.listing(handle)
    file = next(file for file in listing.files if file.name == "model.safetensors")
    partial = fetch_hf._partial(fetch_hf._blob(handle, file))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"of another file")
    assert "came damaged" in said(str(handle))
    assert (fetch(str(handle)) / "model.safetensors").read_bytes() == WEIGHTS


@BOTH
def test_ctrl_c_keeps_what_has_come(
    hub: StandIn, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    client: Any = CLIENTS[parse_handle(case.handle).hub]
    with monkeypatch.context() as patch:
        patch.setattr(client, "stored", lambda *_: 0)
        patch.setattr(client, "download", stop)
        with pytest.raises(KeyboardInterrupt, match="what has come is kept"):
            fetch(case.handle)
    assert fetch(case.handle).is_dir()


REFUSALS: list[tuple[str, Fault, bool, str]] = [
    ("hf", Fault("resolve", 401, {"X-Error-Code": "GatedRepo"}), False,
     "accept the licence at https://huggingface.co/google/gemma-2b and run 'hf auth login'"),
    ("hf", Fault("resolve", 403, {"X-Error-Code": "GatedRepo"}), True,
     "expected its licence accepted; accept it at https://huggingface.co/google/gemma-2b as"),
    ("hf", Fault("/api/", 401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
     True, "does not accept the credentials"),
    ("hf", Fault("/api/", 429), False, "too many requests from here (HTTP 429); wait some"),
    ("hf", Fault("/api/", 500), False, "Hugging Face fails on its side for hf://google/gemma-2b"),
    ("hf", Fault("/api/", 400), False, "does not understand the request"),
    ("kaggle", Fault("", 401), False, "and make a token at https://www.kaggle.com/settings"),
    ("kaggle", Fault("", 403), False, "accept the licence at https://www.kaggle.com/models/google"),
    ("kaggle", Fault("Download", 403, message="consent"), True,
     "accept it at https://www.kaggle.com/models/google/gemma as the owner"),
    ("kaggle", Fault("", 401), True, "does not accept the credentials"),
    ("kaggle", Fault("", 429), True, "too many requests"),
    ("kaggle", Fault("", 502), True, "Kaggle fails on its side"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "known", "line"), REFUSALS)
def test_refusals_say_what_to_do(
    hub: StandIn, monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault, known: bool, line: str
) -> None:
    if known:
        log_in(monkeypatch)
    hub.faults = [fault]
    assert line in said(CASES[name].handle)
    assert cached(parse_handle(CASES[name].handle)) is None


@pytest.mark.parametrize(
    ("handle", "line"),
    [
        ("hf://google/gema-2b", "no model 'google/gema-2b' (did you mean hf://google/gemma-2b"),
        ("hf://google/gemma-2b@none", "or no version 'none' of it"),
        ("kaggle://keras/gemma/keras/gemma_2b_e",
         "did you mean kaggle://keras/gemma/keras/gemma_2b_en"),
        ("kaggle://google/gemma/keras/gemma_2b_en/9", "or no version '9' of it"),
        ("kaggle://google/gemma/kers/gemma_2b_en", "names the framework 'kers'"),
        ("hf://google", "is no hub handle"),
        ("gema_2b_en", "did you mean gemma_2b_en"),
        ("gemma_2b_en", "there are no credentials of Kaggle or Hugging Face"),
    ],
)  # fmt: skip
def test_names_that_are_wrong(hub: StandIn, handle: str, line: str) -> None:
    assert line in said(handle)


@BOTH
def test_hubs_that_cannot_be_reached(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        point_to(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        assert re.search("the connection to .* failed .*refused", said(case.handle))

    def nowhere(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    point_to("http://hub.invalid", monkeypatch)
    assert "check the network" in said(case.handle) and "name resolution" in said(case.handle)


def test_offline(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(CASES["hf"].handle)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in said(CASES["hf"].handle)
    assert locate(CASES["hf"].handle) == folder


@BOTH
def test_too_little_room(hub: StandIn, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(len(hub_file) for name, hub_file in {**KERAS, **HF}.items() if name in case.needed)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=total - 1))
    line = said(case.handle)
    assert "expected room on the disk" in line and ("HF_HUB" in line or "KAGGLEHUB" in line)
    assert hub.fetched() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=total))
    assert fetch(case.handle).is_dir()


@BOTH
def test_caches_that_cannot_be_written(
    hub: StandIn, case: Case, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (caches / "hub").write_text("a file")
    (caches / "kaggle").write_text("a file")
    line = said(case.handle)
    assert "cannot write" in line and "name another folder in" in line


def test_a_preset_comes_from_the_hub_there_are_credentials_for(
    hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models["keras/gemma/keras/gemma_2b_en/3"] = KERAS
    gemma = VARIANTS["gemma_2b_en"]
    assert (fetch("gemma_2b_en", "kaggle") / "model.weights.h5").is_file()
    assert locate("gemma_2b_en") == on_disk(gemma)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (fetch("gemma_2b_en") / "model.safetensors").is_file()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "kaggle_secret")
    assert (fetch("gemma_2b_en") / "model.weights.h5").is_file()
    assert fetch("nano") == locate("nano")
    for wrong in (("gemma_2b_en", "disk"), (CASES["hf"].handle, "kaggle")):
        with pytest.raises(UsageError):
            fetch(*wrong)


def test_a_damaged_kaggle_json_is_one_line(hub: StandIn, caches: Path) -> None:
    (caches / "kaggle.json").write_text("{")
    assert "Invalid Kaggle credentials file" in said("gemma_2b_en")
    assert "Invalid Kaggle credentials file" in said(CASES["kaggle"].handle)


def chosen(*names: str) -> list[str]:
    files = [RemoteFile(name, 10) for name in names]
    beside, weights = needed(Handle("hf", "a/b"), files)
    return [file.name for file in (*beside, *weights)]


def test_the_files_that_are_needed() -> None:
    assert chosen("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                  "model.safetensors.index.json", "model.fp16.safetensors", "tokenizer.json",
                  "a/config.json") == [
        "model.safetensors.index.json", "tokenizer.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert chosen("model_00001.weights.h5", "model_00000.weights.h5", "model.weights.json") == [
        "model.weights.json", "model_00000.weights.h5", "model_00001.weights.h5",
    ]  # fmt: skip
    assert chosen("b.safetensors", "consolidated.safetensors", "b.gguf") == ["b.safetensors"]
    assert chosen("consolidated.00.safetensors") == ["consolidated.00.safetensors"]
    assert chosen("q/b.gguf", "b.bin", "tf_model.h5") == ["q/b.gguf"]
    assert chosen("2b/_METADATA", "2b/d/ab", "2b/manifest.ocdbt", "tokenizer.model", "c.png") == [
        "tokenizer.model", "2b/d/ab", "2b/_METADATA", "2b/manifest.ocdbt",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../x.json", "/etc/x", "a/../../x", "a\\b", ""])
def test_names_that_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="do not trust"):
        chosen("model.safetensors", name)


def test_the_bar_shows_megabytes(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int | None, int | None, str]] = []

    @contextlib.contextmanager
    def bar(title: str, **_: Any) -> Iterator[Any]:
        assert title == "fetching google/gemma-2b"
        yield lambda *shown: seen.append(shown)
        assert seen and seen[-1][1:] == (3, "MB")

    hub.models["google/gemma-2b"] = {"model.safetensors": bytes(3 * 10**6)}
    monkeypatch.setattr("gemkit.checkpoint.hub.fetch.progress", bar)
    monkeypatch.setattr("gemkit.checkpoint.hub.fetch.POLL_SECONDS", 0.0001)
    fetch("hf://google/gemma-2b")
