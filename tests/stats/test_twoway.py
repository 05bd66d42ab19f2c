"""The variance components on numbers whose components are known."""

import numpy as np
import pytest

from tunemerge.stats.twoway import seeds_to_settle, smallest_detectable, two_way


def crossed(rng, studies, seeds, units, sd_seed, sd_unit, sd_rest, shared=None):
    shared = rng.normal(size=(studies, seeds, 1)) if shared is None else shared
    return (
        sd_seed * shared
        + sd_unit * rng.normal(size=(studies, 1, units))
        + sd_rest * rng.normal(size=(studies, seeds, units))
    )


def test_the_parts_add_up_to_the_variance_of_the_mean():
    rng = np.random.default_rng(0)
    parts = two_way([crossed(rng, 4000, 5, 40, 0.5, 2.0, 3.0)])
    expected = 0.25 / 5 + 4 / 40 + 9 / 200
    assert (parts.seed + parts.unit - parts.residual).mean() == pytest.approx(expected, rel=0.03)
    assert parts.mean.var() == pytest.approx(expected, rel=0.06)
    assert parts.residual.mean() == pytest.approx(9 / 200, rel=0.02)
    assert (parts.variance >= np.maximum(parts.seed, parts.unit)).all()


def test_tasks_share_seeds_but_not_units():
    rng = np.random.default_rng(1)
    fate = rng.normal(size=(4000, 5, 1))
    tasks = [crossed(rng, 4000, 5, n, 0.5, 2.0, 1.0, fate) for n in (20, 60)]
    parts = two_way(tasks)
    expected = 0.25 / 5 + (4 / 20 + 4 / 60) / 4 + (1 / 100 + 1 / 300) / 4
    assert (parts.seed + parts.unit - parts.residual).mean() == pytest.approx(expected, rel=0.03)
    assert parts.mean.var() == pytest.approx(expected, rel=0.06)
    np.testing.assert_allclose(parts.mean, (tasks[0].mean((1, 2)) + tasks[1].mean((1, 2))) / 2)


def test_a_batch_is_its_studies_one_by_one():
    rng = np.random.default_rng(2)
    d = [crossed(rng, 6, 4, n, 1, 1, 1) for n in (7, 9)]
    batch = two_way(d)
    for i in range(6):
        one = two_way([t[i] for t in d])
        assert one.variance == pytest.approx(batch.variance[i])
        assert one.df == pytest.approx(batch.df[i])
        assert one.p() == pytest.approx(batch.p()[i])


def test_degrees_of_freedom_lie_between_those_of_seeds_and_units():
    rng = np.random.default_rng(3)
    seeds_only = two_way([crossed(rng, 1, 5, 400, 5.0, 0.01, 0.01)])
    units_only = two_way([crossed(rng, 1, 5, 30, 0.0, 5.0, 0.01)])
    assert seeds_only.df == pytest.approx(4, rel=0.01)
    assert units_only.df == pytest.approx(29, rel=0.01)
    mixed = two_way([crossed(rng, 500, 5, 30, 1.0, 5.0, 1.0)])
    assert (mixed.df >= 4).all() and (mixed.df <= 29 + 1e-9).all()


def test_one_seed_leaves_the_unit_part():
    d = np.random.default_rng(4).normal(size=(1, 50))
    parts = two_way([d])
    assert parts.variance == pytest.approx(d.var(ddof=1) / 50)
    assert parts.df == pytest.approx(49)
    assert parts.seed == 0 and seeds_to_settle(parts, 5) is None


def test_rounding_is_no_variation():
    parts = two_way([np.full((5, 30), 0.1) + 1e-17 * np.arange(30)])
    assert parts.variance == 0
    assert two_way([np.zeros((5, 30))]).p() == 1


def test_one_unit_has_no_variance():
    with pytest.raises(ValueError, match="1 units"):
        two_way([np.zeros((5, 1))])


def test_the_smallest_detectable_difference_is_detected_in_80_percent():
    rng = np.random.default_rng(5)
    d = crossed(rng, 3000, 10, 100, 0.3, 2.0, 1.0)
    least = np.median(smallest_detectable(two_way([d])))
    assert (two_way([d + least]).p() < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_as_many_seeds_as_settle_do_settle_and_one_fewer_does_not():
    rng = np.random.default_rng(6)
    d = crossed(rng, 1, 5, 2000, 1.0, 1.0, 0.5)[0]
    d = d - d.mean() + 0.4
    parts = two_way([d])
    need = seeds_to_settle(parts, 5)
    assert need is not None and need > 5

    def half(seeds):
        stays = parts.unit - parts.residual
        variance = stays + (parts.variance - stays) * 5 / seeds
        share = parts.seed * 5 / seeds / variance
        from scipy.stats import t

        return t.ppf(0.975, 1 / (share / (seeds - 1) + (1 - share) / parts.unit_df)) * variance**0.5

    assert half(need) < 0.4 <= half(need - 1)
    assert seeds_to_settle(two_way([d + 5]), 5) == 5
    assert seeds_to_settle(two_way([d - 0.4 + 1e-3]), 5) is None  # below what the units alone leave open
