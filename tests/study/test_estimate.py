"""What a plan says of its cost: seconds follow what has run already, a range says how sure that is."""

import pytest

from small import small_study
from tunemerge.study import estimate, speed
from tunemerge.study.estimate import Estimate, Forecast, forecast


@pytest.fixture(scope="module")
def plan(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("estimate")
    return small_study(folder, tiny_bert, strategies=["merge_then_tune", "joint"], methods=["linear"], seeds=2).plan()


@pytest.fixture
def store(tmp_path):
    from tunemerge.store.artifacts import Store

    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    """A machine that is always the same."""
    monkeypatch.setattr(estimate, "_speed", lambda precision: (1e9, 2e9))


def publish(store, step, seconds):
    store.publish(step.key, step.op, store.scratch(step.key), {"seconds": seconds}, {})


def test_every_step_that_is_missing_is_estimated(plan, store):
    costs = forecast(plan, store)
    assert costs.steps.keys() == {s.key for s in plan.graph.steps}
    assert costs.spread == (0.6, 1.7)
    for step in plan.graph.steps:
        one = costs.steps[step.key]
        assert one.seconds > 0 and (one.disk > 0) == (step.op in ("init", "tune", "merge"))
        assert (one.flops > 0) == (step.op in ("tune", "search", "predict"))
    most = {s.op: costs.steps[s.key].memory for s in plan.graph.steps}
    assert 1e9 < most["merge"] < most["predict"] < most["tune"]  # a tuning has gradients and moments too
    publish(store, plan.graph.steps[0], 1.0)
    assert plan.graph.steps[0].key not in forecast(plan, store).steps


def test_what_has_run_sets_the_pace(plan, store):
    before = forecast(plan, store).steps
    tunings = [s for s in plan.graph.steps if s.op == "tune"]
    for step, odd in zip(tunings[:5], (3, 3, 40, 3, 3), strict=True):  # one had to wait for something
        publish(store, step, odd * before[step.key].seconds)
    after = forecast(plan, store)
    assert after.spread == (0.8, 1.3)
    left = [s for s in plan.graph.steps if s.key in after.steps]
    assert {s.op for s in left} >= {"tune", "predict", "search"}
    for step in left:  # other operations: at the pace of all
        assert after.steps[step.key].seconds == pytest.approx(3 * before[step.key].seconds)
    assert all(after.steps[s.key].flops == before[s.key].flops for s in left)


def test_a_gpu_on_which_nothing_has_run_has_no_time(plan, store, monkeypatch):
    monkeypatch.setattr(estimate, "device", lambda: "cuda")
    costs = forecast(plan, store)
    assert costs.spread is None and costs.wall(2) is None and sum(e.flops for e in costs.steps.values()) > 0
    for step in plan.graph.steps[:3]:
        publish(store, step, 0.1)
    assert forecast(plan, store).wall(1) is not None


def test_a_run_takes_as_long_as_its_longest_chain():
    steps = {str(i): Estimate(1.0, 2.0, 0) for i in range(10)}
    assert Forecast(steps, 6.0, (0.5, 2.0)).wall(2) == (7.5, 30.0)
    assert Forecast(steps, 15.0, (0.5, 2.0)).wall(2) == (10.0, 40.0)
    assert Forecast({}, 0.0, (0.5, 2.0)).wall(2) == (0.0, 0.0)


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Sets what the next probes take, in seconds each; the cache is empty."""
    monkeypatch.setenv("TUNEMERGE_CACHE", str(tmp_path / "cache"))
    times = []
    monkeypatch.setattr(speed.timeit, "timeit", lambda what, number: times.pop(0) if len(times) > 1 else times[0])
    return times


def test_the_fastest_of_many_probes_counts_and_is_kept(clock):
    product = 2 * 2 * 512**3
    clock[:] = [9.0, 9.0, 0.5, 5.0]
    assert speed.product_speed() == pytest.approx(product / 0.5)
    clock[:] = [7.0]  # a loaded machine: the same plan says the same time
    assert speed.product_speed() == pytest.approx(product / 0.5, rel=1e-5)
    clock[:] = [0.1]
    assert speed.product_speed() == pytest.approx(product / 0.1)


@pytest.mark.parametrize("kept", ["", "fast", "nan", "-1", "1e99", "inf"])
def test_a_damaged_cache_changes_nothing(clock, kept):
    clock[:] = [1.0]
    expected = speed.product_speed()
    speed._file().write_text(kept)
    assert speed.product_speed() == expected


def test_without_a_place_to_keep_it_the_speed_is_measured(clock, monkeypatch):
    clock[:] = [1.0]
    monkeypatch.setattr(speed, "cache_folder", lambda: None)
    assert speed.product_speed() == 2 * 2 * 512**3
