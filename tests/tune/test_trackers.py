"""Trackers by name: what they get, that they change no key and no bit, and what is said where one is not installed."""

import importlib.util
import os

import pytest

from small import run, small_study
from tunemerge.findings import FindingsError
from tunemerge.tune.trackers import PACKAGES, missing_packages, reporting, tracking

ONE = {"strategies": ["merge_only", "joint"], "methods": ["linear"], "candidates": 1, "seeds": 1}


def test_nothing_is_reported_unless_asked_for():
    assert reporting() == {"report_to": "none", "logging_strategy": "no"}


def test_the_environment_tells_workers_and_is_as_before_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine")
    monkeypatch.setenv("TUNEMERGE_STEP", "joint, 8 steps")
    before = dict(os.environ)
    with tracking(["tensorboard", "mlflow"], "reviews", tmp_path / "trackers"):
        told = reporting()
        assert told["report_to"] == ["tensorboard", "mlflow"] and told["run_name"] == "joint, 8 steps"
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://mine" and os.environ["WANDB_PROJECT"] == "reviews"
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "trackers" / "tensorboard" / "joint_8_steps")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    assert dict(os.environ) == before


def test_a_missing_package_is_a_finding_before_anything_runs(tmp_path, tiny_bert):
    missing = next(name for name in PACKAGES if importlib.util.find_spec(name) is None)
    study = small_study(tmp_path, tiny_bert, **ONE, trackers=[missing])
    (finding,) = missing_packages([missing])
    assert f"pip install {missing}" in finding.remedy
    with pytest.raises(FindingsError, match=f"the package '{missing}' is not installed"):
        study.run()
    assert not study.workdir.exists()


def test_a_tracker_gets_every_tuning_and_changes_no_bit(tmp_path, tiny_bert):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    results = {}
    for name, trackers in (("plain", []), ("tracked", ["tensorboard"])):
        (tmp_path / name).mkdir()
        study = small_study(tmp_path / name, tiny_bert, **ONE, trackers=trackers)
        results[name] = run(study)
    assert {s.key: s.digest for s in results["plain"].steps} == {s.key: s.digest for s in results["tracked"].steps}
    folders = sorted((study.run_folder / "trackers" / "tensorboard").iterdir())
    assert len(folders) == sum(s.op == "tune" for s in results["tracked"].steps)
    for folder in folders:
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        losses = [e.value for e in events.Scalars("train/loss")]
        assert len(losses) == events.Scalars("train/loss")[-1].step and all(0 < x < 5 for x in losses)
