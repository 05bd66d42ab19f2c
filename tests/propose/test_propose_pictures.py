"""Which sources are proposed as images."""

from pathlib import Path

import numpy as np
from PIL import Image

import pictures
from tunemerge.propose.proposal import propose
from tunemerge.propose.questions import Answers
from tunemerge.propose.size import size_of
from tunemerge.propose.tables import find_sources
from tunemerge.propose.tasks import look
from tunemerge.propose.write import study_text
from tunemerge.study.study import Study
from tunemerge.yamlfile import parse_yaml


def write_folder(folder: Path, n: int, side: int = 8) -> Path:
    pixels, labels = pictures.images(n, side=side)
    for name in ("lying", "standing"):
        (folder / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(folder / ("standing" if label else "lying") / f"{number}.png")
    return folder


def test_folders_and_arrays_become_a_study_that_passes_its_check(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", 600)
    pixels, labels = pictures.images(600, 1)
    np.savez(tmp_path / "two.npz", images=pixels, labels=np.array(["lying", "standing"])[labels])
    (tmp_path / "nets.py").write_text(pictures.NETS)
    sources = find_sources([tmp_path / "one", tmp_path / "two.npz"])
    proposal, questions, found = propose(sources, Answers(base=str(tmp_path / "nets.py") + ":make"))
    assert [(t.name, t.kind, t.raw) for t in proposal.tasks] == [
        ("one", "image-classification", ("lying", "standing")),
        ("two", "image-classification", ("lying", "standing")),
    ]
    assert not questions and not found
    text = study_text(proposal, size_of(proposal, 0.1), "bars", tmp_path / "study.yaml", "a minute")
    assert "base: {build: nets.py:make}" in text and "{image: images, label: labels}" not in text
    assert "    image: images\n    label: labels\n" in text
    study = Study.from_dict(parse_yaml(text, "study.yaml")[0], tmp_path, tmp_path / "work")
    found = study.check()
    assert [f.message for f in found if f.severity == "error"] == []
    assert {"batch-norms"} <= {f.code for f in found}


def test_images_of_several_sizes_are_brought_to_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", 30)
    Image.fromarray(np.zeros((20, 9, 3), np.uint8)).save(tmp_path / "set" / "lying" / "large.png")
    (task,) = look(find_sources([tmp_path / "set"]), Answers()).tasks
    assert task.keys == {"size": 8}


def test_a_clip_gets_captions_and_its_tasks_may_have_other_labels(tmp_path: Path) -> None:
    pictures.tiny_clip(tmp_path / "clip", "a photo of lying standing flat upright")
    for number, names in enumerate((["lying", "standing"], ["flat", "upright"])):
        pixels, labels = pictures.images(600, number)
        np.savez(tmp_path / f"{names[0]}.npz", image=pixels, label=np.array(names)[labels])
    sources = find_sources([tmp_path / "flat.npz", tmp_path / "lying.npz"])
    proposal, questions, found = propose(sources, Answers(base=str(tmp_path / "clip")))
    assert [(t.name, t.kind) for t in proposal.tasks] == [("flat", "image-text"), ("lying", "image-text")]
    assert not questions and not found
    text = study_text(proposal, size_of(proposal, 0.1), "bars", tmp_path / "study.yaml", "a minute")
    assert "inferred: the base is a CLIP" in text
    study = Study.from_dict(parse_yaml(text, "study.yaml")[0], tmp_path, tmp_path / "work")
    assert {"several-label-sets", "captions"} <= {f.code for f in study.check() if f.severity == "note"}
    assert look(sources, Answers(kind="image-classification")).tasks[0].kind == "image-classification"
