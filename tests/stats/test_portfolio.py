"""The portfolio that follows predicted returns: every figure by hand, from day, asset, prediction and return."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tunemerge.stats.metrics import METRICS
from tunemerge.stats.portfolio import Book, together, worth


def rows(returns, predicted, cost=0.0, days=None):
    """Target and predictions of tables [T, A]."""
    returns, predicted = np.array(returns, float), np.array(predicted, float)
    t, a = returns.shape
    day = np.repeat(np.arange(t) if days is None else days, a)
    target = np.stack([returns.ravel(), day, np.tile(np.arange(a), t), np.full(t * a, cost)], axis=1)
    return target, predicted.reshape(-1, 1), np.ones(t * a)


def of(name, *args):
    return METRICS[name].fn(*args)


def test_few_assets_are_long_or_short_by_sign_and_pay_for_every_change():
    """Half the money in each of two assets. The first day buys 1, the second turns one half around: 1 traded."""
    table = rows([[0.02, -0.01], [0.03, 0.01]], [[1, -1], [1, 1]], cost=0.001)
    net = [0.5 * 0.02 + 0.5 * 0.01 - 0.001, 0.5 * 0.03 + 0.5 * 0.01 - 0.001]
    assert of("portfolio_return", *table) == pytest.approx(np.mean(net) * 365.25)
    assert of("portfolio_volatility", *table) == pytest.approx(np.std(net) * np.sqrt(365.25))
    assert of("sharpe", *table) == pytest.approx(np.mean(net) / np.std(net) * np.sqrt(365.25))
    assert of("drawdown", *table) == 0


def test_from_five_assets_on_ranks_are_held_against_each_other():
    """Ranks about their middle, -2 to 2, over 6: what all assets earn alike is not earned."""
    predicted, returned = [[5, 1, 4, 2, 3]], np.array([[0.05, 0.01, 0.03, 0.02, 0.04]])
    held = np.array([2, -2, 1, -1, 0]) / 6
    one = of("portfolio_return", *rows(returned, predicted))
    assert (
        one
        == pytest.approx(float(held @ returned[0]))
        == pytest.approx(of("portfolio_return", *rows(returned + 0.5, predicted)))
    )


def test_nothing_is_held_where_predictions_say_nothing():
    table = rows(np.random.default_rng(0).normal(size=(9, 6)), np.zeros((9, 6)), cost=0.01)
    for name in ("portfolio_return", "portfolio_volatility", "sharpe", "drawdown", "information_coefficient"):
        assert of(name, *table) == 0, name
    assert of("directional_accuracy", *table) == 0.5


def test_a_loss_from_the_peak_and_trading_days_of_a_year():
    table = rows([[0.1], [-0.5], [0.2]], [[1], [1], [1]], days=[0, 7, 14])
    assert of("drawdown", *table) == pytest.approx(0.5)
    assert of("portfolio_return", *table) == pytest.approx(np.mean([0.1, -0.5, 0.2]) * 2 * 365.25 / 14)


def test_the_information_coefficient_is_the_rank_correlation_of_a_days_assets():
    rng = np.random.default_rng(1)
    returned, predicted = rng.normal(size=(2, 20, 6))
    by_day = [spearmanr(p, r).statistic for p, r in zip(predicted, returned, strict=True)]
    assert of("information_coefficient", *rows(returned, predicted)) == pytest.approx(np.mean(by_day))
    few = rows(returned[:, :2], predicted[:, :2])
    together = spearmanr(predicted[:, :2].ravel(), returned[:, :2].ravel()).statistic
    assert of("information_coefficient", *few) == pytest.approx(together)


def test_a_missing_asset_is_sold_and_a_day_left_out_leaves_no_trace():
    target, predicted, weight = rows([[0.01, 0.02]] * 3, [[1, 1]] * 3, cost=0.01)
    gone = weight.copy()
    gone[3] = 0  # asset 1 on day 1: half is sold, the other half bought, and the other way round on day 2
    net = [0.015 - 0.01, 0.01 - 0.01, 0.015 - 0.01]
    assert of("portfolio_return", target, predicted, gone) == pytest.approx(np.average(net, weights=[1, 1, 1]) * 365.25)
    whole = weight.copy()
    whole[2:4] = 0
    kept = [0, 1, 4, 5]
    assert of("sharpe", target, predicted, whole) == pytest.approx(
        of("sharpe", target[kept], predicted[kept], weight[kept])
    )


def test_books_of_other_calendars_keep_to_their_part_of_the_money() -> None:
    weeks = np.arange(0.0, 70.0, 7.0)
    bonds = Book(np.full(10, 0.01), np.ones(10), 52.0, weeks)
    coins = Book(np.tile([0.2, -0.2], 5), np.ones(10), 52.0, weeks + 2)
    both = together([bonds, coins])
    assert both.days.tolist() == sorted([*weeks, *(weeks + 2)])
    assert both.net[:3].tolist() == [0.005, 0.1, 0.005]
    assert worth(both)[-1] == pytest.approx(1.005**10 * (1.1 * 0.9) ** 5)
    assert together([bonds, bonds]).net.tolist() == bonds.net.tolist()
