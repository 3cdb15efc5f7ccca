"""A MODEL as typed → a folder on disk, or how to get it."""

from pathlib import Path

import pytest

from gemkit.checkpoint.hub import EMBEDDED, locate, on_disk
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


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_preset_fetched_by_kagglehub(caches: Path) -> None:
    assert on_disk(GEMMA) is None
    folder = fill(caches / "kaggle" / "models" / "keras/gemma/keras/gemma_2b_en/3")
    assert locate("gemma_2b_en") == on_disk(GEMMA) == folder


def test_a_repository_fetched_by_huggingface_hub(caches: Path) -> None:
    snapshots = caches / "hub" / "models--google--gemma-2b" / "snapshots"
    (snapshots / "a-broken-one").mkdir(parents=True)
    folder = fill(snapshots / "b")
    assert locate("gemma_2b_en") == folder


def test_hf_home_holds_a_hub(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    folder = fill(caches / "unused" / "hub" / "models--google--gemma-2b" / "snapshots" / "b")
    assert locate("gemma_2b_en") == folder


def test_what_is_not_on_disk_says_how_to_get_it() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate("gemma_2b_en")
    for said in ("not on this disk", LICENCE, "hf download google/gemma-2b", GEMMA.kaggle):
        assert said in str(caught.value)


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
        ("kaggle://keras/gemma/keras/gemma_2b_en/3", "is a hub handle"),
        ("hf://google/gemma-2b@main", "is a hub handle"),
    ],
)
def test_what_is_no_model(model: str, said: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate(model)
    assert said in str(caught.value) and "\n" not in str(caught.value)
