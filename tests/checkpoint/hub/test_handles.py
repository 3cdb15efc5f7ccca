"""A MODEL as typed → a folder on disk, or how to get it; nothing is fetched here."""

from pathlib import Path

import pytest

from gemkit.checkpoint.hub.handles import EMBEDDED, Handle, cached, locate, on_disk, parse_handle
from gemkit.errors import ModelNotFoundError
from gemkit.model.variants import LICENCE, VARIANTS

GEMMA = VARIANTS["gemma_2b_en"]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both hub clients, in one folder."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "unused"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("config.json", "model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_a_preset_fetched_by_kagglehub(caches: Path) -> None:
    assert on_disk(GEMMA) is None
    folder = caches / "kaggle" / "models" / "keras/gemma/keras/gemma_2b_en/3"
    fill(folder, "config.json", "model.weights.h5")
    assert on_disk(GEMMA) is None  # no marks: it broke off
    (folder.parent / "3.complete").touch()
    assert locate("gemma_2b_en") == on_disk(GEMMA) == folder
    assert locate("kaggle://keras/gemma/keras/gemma_2b_en") == folder


def test_a_newer_version_than_the_known_one_counts(caches: Path) -> None:
    root = caches / "kaggle" / "models" / "keras/gemma/keras/gemma_2b_en"
    for version in ("9", "10"):
        fill(root / version, "model.weights.h5")
        fill(root / ".complete" / version, "model.weights.h5.complete")
    assert on_disk(GEMMA) == root / "10"
    assert cached(parse_handle("kaggle://keras/gemma/keras/gemma_2b_en/9")) == root / "9"
    fill(root / "10", "half_of_it")
    assert on_disk(GEMMA) == root / "9"


def test_one_file_of_a_model(caches: Path) -> None:
    root = caches / "kaggle" / "models" / "google/gemma/gguf/2b"
    handle = Handle("kaggle", "google/gemma/gguf/2b", "1", "a.gguf")
    fill(root / "1", "a.gguf", "b.gguf")
    assert cached(handle) is None
    fill(root / ".complete" / "1", "a.gguf.complete")
    assert cached(handle) == root / "1" / "a.gguf"


INDEX = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'


@pytest.mark.parametrize(
    ("index", "shards", "whole"),
    [
        ("model.safetensors.index.json", ["model-1.safetensors", "model-2.safetensors"], True),
        ("model.safetensors.index.json", ["model-1.safetensors"], False),
        ("model.weights.json", ["model-1.safetensors", "model-2.safetensors"], True),
    ],
)
def test_a_folder_counts_once_all_shards_are_there(
    caches: Path, index: str, shards: list[str], whole: bool
) -> None:
    folder = fill(caches / "hub" / "models--google--gemma-2b" / "snapshots" / "b", *shards)
    (folder / index).write_text(INDEX)
    assert (on_disk(GEMMA) == folder) is whole
    (folder / index).write_text("[]")
    assert on_disk(GEMMA) is None


def test_orbax_and_gguf_are_weights_and_settings_are_none(caches: Path) -> None:
    for name, whole in (("2b/_METADATA", True), ("a.gguf", True), ("config.json", False)):
        root = caches / "hub" / f"models--me--{name[0]}"
        fill(root / "refs").joinpath("main").write_text("b")
        folder = fill(root / "snapshots" / "b", name)
        assert (cached(Handle("hf", f"me/{name[0]}")) == folder) is whole


def test_a_repository_fetched_by_huggingface_hub(caches: Path) -> None:
    snapshots = caches / "hub" / "models--google--gemma-2b" / "snapshots"
    fill(snapshots / "a-broken-one", "config.json")
    folder = fill(snapshots / "b")
    assert locate("gemma_2b_en") == folder


def test_hf_home_holds_a_hub(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    folder = fill(caches / "unused" / "hub" / "models--google--gemma-2b" / "snapshots" / "b")
    assert locate("gemma_2b_en") == folder


def test_what_is_not_on_disk_says_how_to_get_it() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate("gemma_2b_en")
    line = str(caught.value)
    for said in (
        "not on this disk",
        LICENCE,
        "'gemkit fetch gemma_2b_en'",
        "hf auth login",
        "huggingface.co/google/gemma-2b",
        "kaggle.com/models/keras/gemma",
        "KAGGLE_API_TOKEN",
    ):
        assert said in line
    assert "\n" not in line


def test_revisions(caches: Path) -> None:
    root = caches / "hub" / "models--google--gemma-2b"
    for name, commit in (("main", "1" * 40), ("v1", "2" * 40), ("pr/1", "3" * 40)):
        fill(root / "snapshots" / commit)
        fill(root / "refs" / Path(name).parent)
        (root / "refs" / name).write_text(commit)
    assert (
        locate("hf://google/gemma-2b").name == locate("hf://google/gemma-2b@main").name == "1" * 40
    )
    assert locate("hf://google/gemma-2b@v1").name == locate(f"hf://google/gemma-2b@{'2' * 40}").name
    assert locate("hf://google/gemma-2b@v1/config.json").name == "config.json"
    assert on_disk(GEMMA) == root / "snapshots" / ("1" * 40)


def test_handles() -> None:
    for text, handle in (
        ("hf://a/b", Handle("hf", "a/b")),
        ("hf://a/b@v1/c/d.gguf", Handle("hf", "a/b", "v1", "c/d.gguf")),
        ("hf://a/b@refs/pr/1", Handle("hf", "a/b", "refs/pr/1")),
        ("hf://a/b/c.gguf", Handle("hf", "a/b", "", "c.gguf")),
        ("kaggle://a/b/keras/d", Handle("kaggle", "a/b/keras/d")),
        ("kaggle://a/b/gguf/d/2/e.gguf", Handle("kaggle", "a/b/gguf/d", "2", "e.gguf")),
    ):
        assert parse_handle(text) == handle and str(handle) == text


def test_folders_and_the_embedded_model(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(caches / "mine")
    assert locate("mine") == Path("mine") and locate(folder) == folder
    monkeypatch.setenv("HOME", str(caches))
    assert locate("~/mine") == folder
    assert locate("nano") == EMBEDDED["nano"]


def test_a_name_comes_before_a_folder_of_that_name(caches: Path) -> None:
    fill(caches / "nano")
    assert locate("nano") == EMBEDDED["nano"]
    assert locate("./nano") == Path("nano")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gemma_2ben", "did you mean gemma_2b_en"),
        ("nan", "did you mean nano?"),
        ("nothing/like/it", "no model 'nothing/like/it'; expected a preset's name"),
        ("", "no model ''"),
        ("hf://google/gemma-2b", "the network is switched off"),
        ("kaggle://a/b/c", "'kaggle://a/b/c' is no hub handle; expected hf://org/name"),
        ("hf://a/../../b", "is no hub handle"),
        ("hf://a/b@../../x", "is no hub handle"),
        ("https://a/b", "is no hub handle"),
    ],
)
def test_what_is_no_model(model: str, said: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(model)
    assert said in str(caught.value) and "\n" not in str(caught.value)
