"""Numbers as people read them."""

import pytest

from tunemerge.report import format as fmt
from tunemerge.report.clean import clean_text
from tunemerge.results import Interval


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (0.871, "accuracy", "87.1%"),
        (0.871, "macro_f1", "87.1%"),
        (0.8714, "AUROC", "87.1%"),
        (1.0, "accuracy", "100.0%"),
        (0.03149, "ece", "3.1%"),
        (0.3124, "log_loss", "0.312"),
        (-0.5, "some_metric", "−0.500"),
        (None, "accuracy", "–"),
        (float("nan"), "accuracy", "–"),
    ],
)
def test_scores(value: float | None, metric: str, shown: str) -> None:
    assert fmt.score(value, metric) == shown


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (0.021, "accuracy", "+2.1"),
        (-0.0034, "accuracy", "−0.3"),
        (0.0001, "accuracy", "0.0"),
        (-0.0001, "accuracy", "0.0"),
        (0.0213, "log_loss", "+0.021"),
    ],
)
def test_differences(value: float, metric: str, shown: str) -> None:
    assert fmt.difference(value, metric) == shown


def test_a_contrast_has_interval_and_unit() -> None:
    found = Interval(value=0.021, low=-0.008, high=0.034)
    assert fmt.contrast(found, "accuracy") == "+2.1 [−0.8, 3.4] points"
    assert fmt.contrast(found, "log_loss") == "+0.021 [−0.008, 0.034]"
    assert fmt.size(0.016, "accuracy") == "1.6 points"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "unknown"),
        (0, "0"),
        (950, "950 FLOP"),
        (999.7, "1.0 kFLOP"),
        (1.234e12, "1.2 TFLOP"),
        (99.94e9, "99.9 GFLOP"),
        (99.96e9, "100 GFLOP"),
        (999.6e9, "1.0 TFLOP"),
        (3.4e17, "340 PFLOP"),
    ],
)
def test_flops(value: float | None, shown: str) -> None:
    assert fmt.flops(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "unknown"),
        (0, "0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (192, "3 min 12 s"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
        (360_000, "100 h"),
    ],
)
def test_seconds(value: float | None, shown: str) -> None:
    assert fmt.seconds(value) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.4, 1.1, "0.4 to 1.1 s"),
        (21, 61, "20 to 60 s"),
        (60, 80, "60 to 80 s"),
        (58, 160, "1 to 2.7 min"),
        (610, 1725, "10 to 30 min"),
        (4000, 9000, "1.1 to 2.5 h"),
        (700, 710, "about 10 min"),
        (0, 0, "about 0 s"),
    ],
)
def test_a_range_of_durations_is_as_exact_as_a_guess_may_be(low: float, high: float, shown: str) -> None:
    assert fmt.seconds_range(low, high) == shown


def test_the_rest() -> None:
    assert fmt.memory(742_000_000) == "742 MB"
    assert fmt.memory(1.25e9) == "1.2 GB"
    assert fmt.count(12_800) == "12,800"
    assert fmt.count(None) == "unknown"
    assert [fmt.probability(p) for p in (0.0004, 0.034, 0.9999)] == ["< 0.001", "0.034", "> 0.999"]
    assert [fmt.p_value(p) for p in (0.0, 0.0099, 0.0501, 0.234)] == ["< 0.01", "< 0.01", "0.05", "0.23"]
    assert fmt.plural(1, "arm") == "1 arm"
    assert fmt.plural(2, "box", "boxes") == "2 boxes"
    assert fmt.short("sha256:0123456789abcdef") == "0123456789"
    assert (
        fmt.parameters({"scale": 0.4, "density": 0.50, "normalize": True}) == "scale 0.4, density 0.5, normalize True"
    )
    assert fmt.parameters({}) == "defaults"


def test_what_cannot_be_shown_is_replaced_and_letters_of_any_script_stay() -> None:
    assert clean_text("a\x00b\x1b[31m\u202ec") == "a\ufffdb\ufffd[31m\ufffdc"
    assert clean_text("two\r\nlines\tשלום, 日本") == "two\nlines\tשלום, 日本"
