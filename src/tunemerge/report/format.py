"""Numbers and names for people. Every number that the report, the card or the terminal shows passes through here.

Scores of metrics that live in [0, 1] are shown as per cent and their differences in points; others (log loss) as
they are. What nobody knows is "unknown", never 0. Minus signs are true minus signs, so that columns align.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tunemerge.results import CostLine, Interval

UNKNOWN = "unknown"
NONE = "–"
_PERCENT = {
    "accuracy", "balancedaccuracy", "f1", "macrof1", "microf1", "weightedf1", "auroc", "auc", "rocauc", "exactmatch",
    "accuracyandr2", "auprc", "calibrationerror", "ece", "expectedcalibrationerror",
}  # fmt: skip
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "macro_f1": "macro-F1", "ece": "calibration error",
          "log_loss": "log loss", "brier": "Brier score", "accuracy_and_r2": "accuracy and R²", "r2": "R²"}  # fmt: skip


def is_percent(metric: str) -> bool:
    """Does the metric live in [0, 1] and read well as per cent? Spelling of the name does not matter."""
    return re.sub(r"[^a-z0-9]", "", metric.lower()) in _PERCENT


def metric_name(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def score(value: float | None, metric: str) -> str:
    """.871 -> "87.1%" for accuracy, "0.871" for log loss."""
    if value is None or not _finite(value):
        return NONE
    return _signed(f"{100 * value:.1f}%" if is_percent(metric) else f"{value:.3f}")


def bare(value: float, metric: str) -> str:
    """A score or size without its unit: .871 -> "87.1"."""
    return _signed(f"{100 * value:.1f}" if is_percent(metric) else f"{value:.3f}")


def interval(found: Interval, metric: str) -> str:
    """The bounds alone: "[85.2, 88.9]"."""
    return f"[{bare(found.low, metric)}, {bare(found.high, metric)}]"


def tick(value: float, metric: str) -> str:
    """A score on an axis: no decimals that say nothing."""
    return _signed(f"{100 * value:.4g}%" if is_percent(metric) else f"{value:.4g}")


def _delta(value: float, metric: str) -> str:
    shown = f"{100 * value:+.1f}" if is_percent(metric) else f"{value:+.3f}"
    return _signed(shown[1:] if float(shown) == 0 else shown)


def difference(value: float, metric: str) -> str:
    """.021 -> "+2.1" (points) for accuracy; zero has no sign."""
    return _delta(value, metric)


def difference_tick(value: float, metric: str) -> str:
    """A difference on an axis: "+2", "0", "−0.02"."""
    shown = 100 * value if is_percent(metric) else value
    return _signed(f"{shown:+.4g}") if shown else "0"


def contrast(found: Interval, metric: str) -> str:
    """A difference with its interval and unit: "+2.1 [0.8, 3.4] points"."""
    unit = " points" if is_percent(metric) else ""
    return f"{_delta(found.value, metric)} {interval(found, metric)}{unit}"


def size(value: float, metric: str) -> str:
    """An unsigned difference with its unit: "1.4 points"."""
    return f"{bare(abs(value), metric)}{' points' if is_percent(metric) else ''}"


def learning_rates(tried: Sequence[float]) -> str:
    """ "5e-05", or "best of 3 by validation (2e-05, 5e-05, 0.0001)"."""
    named = ", ".join(f"{rate:g}" for rate in tried)
    return named if len(tried) == 1 else f"best of {len(tried)} by validation ({named})"


def _scaled(value: float, unit: str) -> str:
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    digits = 0 if abs(value) >= 99.95 or (value == round(value) and power == 0) else 1
    return f"{value:.{digits}f} {_PREFIXES[power]}{unit}".rstrip()


def flops(value: float | None) -> str:
    """1.234e12 -> "1.2 TFLOP"."""
    return UNKNOWN if value is None else _scaled(value, "FLOP") if value else "0"


def flops_tick(value: float) -> str:
    """FLOPs on an axis: "1 TFLOP"."""
    return flops(value).replace(".0 ", " ")


def memory(value: float | None) -> str:
    """Bytes in decimal units: "1.2 GB"."""
    return UNKNOWN if value is None else _scaled(value, "B") if value else NONE


def seconds(value: float | None) -> str:
    """192 -> "3 min 12 s"."""
    if value is None:
        return UNKNOWN
    if value < 9.95:
        return f"{value:.1f} s" if value else "0 s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    hours, rest = divmod(round(whole / 60), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def seconds_range(low: float, high: float) -> str:
    """Two rough durations: 1260, 2580 -> "20 to 45 min"."""
    unit, name = (3600, "h") if high >= 7200 else (60, "min") if high >= 90 else (1, "s")
    ends = [_rough(value / unit) for value in (low, high)]
    return f"{ends[0]} to {ends[1]} {name}" if ends[0] != ends[1] else f"about {ends[0]} {name}"


def _rough(value: float) -> str:
    """As exact as a guess may look: tenths up to 3, whole numbers up to 10, then in fives."""
    if value < 3:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.0f}" if value < 10 else f"{5 * round(value / 5)}"


def count(value: float | None) -> str:
    """12800 -> "12,800"."""
    return UNKNOWN if value is None else f"{round(value):,}"


def probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else "> 0.999" if value > 0.999 else f"{value:.3f}"


def p_value(value: float) -> str:
    """A p value in a sentence: "0.23", never "0.00"."""
    return "< 0.01" if value < 0.01 else f"{value:.2f}"


def plain(value: float | None, digits: int = 2) -> str:
    """A bare number with a true minus sign."""
    return NONE if value is None or not _finite(value) else _signed(f"{value:.{digits}f}")


def share(value: float | None) -> str:
    """A share as per cent: 3.2%."""
    return f"{100 * value:.1f}%".replace("-", "−") if value is not None and _finite(value) else NONE


def signed(value: float, digits: int = 1) -> str:
    """A count with its sign: "+2.4"; zero has none."""
    shown = f"{value:+.{digits}f}"
    return _signed(shown[1:] if float(shown) == 0 else shown)


def sentence(text: str) -> str:
    """Text that ends with a full stop."""
    return f"{text}." if text and text.rstrip()[-1:] not in ".!?…" else text


def plural(number: int, word: str, several: str | None = None) -> str:
    return f"{number:,} {word if number == 1 else several or word + 's'}"


def short(key: str) -> str:
    """A key or digest as it is shown: its first 10 characters, of "sha256:..." those after the colon."""
    return key.rpartition(":")[2][:10]


def parameters(values: dict[str, object]) -> str:
    """{"density": 0.5} -> "density 0.5"."""
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()) or "defaults"


def all_flops(cost: CostLine) -> float:
    """Training and forward-only passes together."""
    return cost.train_flops + cost.forward_flops
