"""How often does a study claim a win that is none? Simulated studies through the code that decides real ones.

Three arms (three pairs, one Holm family) of equal true accuracy are trained with S seeds and tested on the same N
units; the components, p values, Holm and the decision are those of `tunemerge.stats`. A second run of each cell gives
arm 0 a true lead of 3 points of accuracy, whatever the metric (calibration error hardly sees it). Columns, in percent:

    pair      pairs called different at p < .05 before Holm (nominal 5)
    study     studies with any "better" or "worse" (after Holm; at most 7)
    cover     95% intervals of a difference that hold the true one (at least 93)
    cover+3   the same where the true difference is 3 points
    score     95% intervals of one arm's score that hold its true score
    power     studies that call arm 0 better than arm 1 when it leads by 3 points
    equal     pairs called equivalent when the true difference is the margin itself (nominal 5)

Under 5 seeds no win is claimed: the cells with 2 and 3 seeds are there for the last column.

Run: python benchmarks/null_studies.py [--studies 1000]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tunemerge.stats.components import FEWEST_SEEDS, Contrast
from tunemerge.stats.holm import holm
from tunemerge.stats.metrics import METRICS
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.pseudo import pseudo_values
from tunemerge.stats.twoway import two_way
from tunemerge.stats.verdict import decide

Floats = NDArray[np.float64]

ARMS = 3
PAIRS = list(itertools.combinations(range(ARMS), 2))
ACCURACY = 0.85
LEAD = 0.03
# Simulated numbers held at once.
CHUNK = 2_000_000


@dataclass(frozen=True)
class Cell:
    """One condition. `spread`: SD over seeds of an arm's accuracy, in points. `by_unit`: whether arms of equal
    accuracy differ in which units they get right (two methods), or not (an arm against itself under other seeds).
    """

    seeds: int
    units: int
    spread: float
    by_unit: bool = True
    tasks: int = 1
    metric: str = "accuracy"


@dataclass(frozen=True)
class Outcome:
    """Shares in [0, 1]; see the module's columns."""

    pair: float
    study: float
    cover: float
    cover_lead: float
    score: float
    power: float
    equal: float


def grid() -> Iterator[Cell]:
    """The cells that the table shows."""
    for by_unit, seeds, units, spread in itertools.product((False, True), (5, 10), (200, 600, 3000), (0.5, 1.2, 2.5)):
        yield Cell(seeds, units, spread, by_unit)
    for seeds, spread in itertools.product((2, 3), (0.5, 1.2)):
        yield Cell(seeds, 3000, spread)
    for seeds, spread in itertools.product((5, 10), (0.5, 2.5)):
        yield Cell(seeds, 200, spread, tasks=3)
    for metric, seeds, spread in itertools.product(("macro_f1", "auroc", "ece"), (5, 10), (0.5, 2.5)):
        yield Cell(seeds, 600, spread, metric=metric)


def latent(cell: Cell, studies: int, lead: float, rng: np.random.Generator) -> Iterator[Floats]:
    """Margins [studies, ARMS, S, N] of each task: positive where a row is answered rightly.

    A margin is its arm's level + the unit's ease + the arm's way with that unit + the seed's luck + noise. Ease, way
    and noise have unit variance together, so the level is the accuracy's normal quantile. Half of the luck's variance
    is shared by the tasks.
    """
    shares = np.array([0.65, 0.10, 0.25]) if cell.by_unit else np.array([0.70, 0.0, 0.30])
    ease, way, noise = np.sqrt(shares)
    accuracy = np.full(ARMS, ACCURACY) + lead * (np.arange(ARMS) == 0)
    at = ndtri(accuracy)
    luck = cell.spread / 100 / (np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi))
    level = at * np.sqrt(1 + luck**2)
    shared = rng.standard_normal((studies, ARMS, cell.seeds, 1))
    for _ in range(cell.tasks):
        margin = rng.standard_normal((studies, ARMS, cell.seeds, cell.units), dtype=np.float32) * np.float32(noise)
        margin += (ease * rng.standard_normal((studies, 1, 1, cell.units))).astype(np.float32)
        if way:
            margin += (way * rng.standard_normal((studies, ARMS, 1, cell.units))).astype(np.float32)
        own = rng.standard_normal((studies, ARMS, cell.seeds, 1))
        fate = shared if cell.tasks == 1 else (shared + own) / np.sqrt(2)
        margin += (level[:, None, None] + luck[:, None, None] * fate).astype(np.float32)
        yield margin


def values(cell: Cell, margin: Floats, rng: np.random.Generator) -> Floats:
    """Pseudo-values [studies, ARMS, S, N] (or blocks in place of units) of the cell's metric."""
    if cell.metric == "accuracy":
        return (margin > 0).astype(np.float64)  # units of one row: its pseudo-value is 1 or 0
    metric, units = METRICS[cell.metric], np.array([f"{i:06d}" for i in range(cell.units)])
    out = []
    for study in margin:
        target = (rng.random(cell.units) < 0.4).astype(int)
        signed = np.where(target == 1, study, -study) / 2
        out.append(
            [
                pseudo_values(
                    [Predictions(units, target, np.stack([-s, s], axis=1), np.ones(cell.units)) for s in arm], metric
                )
                for arm in signed
            ]
        )
    return np.array(out)


def outcomes(contrasts: Sequence[Contrast], seeds: int) -> list[str]:
    """The verdicts of one study, with no margin of equivalence to hide a false win."""
    adjusted = holm([c.p for c in contrasts])
    return [decide(c, p, 0.0, seeds) for c, p in zip(contrasts, adjusted, strict=True)]


def simulate(cell: Cell, studies: int, lead: float, rng: np.random.Generator) -> dict[str, Floats]:
    """Pair differences, half-widths, p values and wins [studies, pairs], arm scores and their half-widths."""
    tasks = [values(cell, margin, rng) for margin in latent(cell, studies, lead, rng)]
    arms = two_way(tasks)
    pairs = [two_way([t[:, a] - t[:, b] for t in tasks]) for a, b in PAIRS]
    difference, p = np.stack([q.mean for q in pairs], 1), np.stack([q.p() for q in pairs], 1)
    half, half90 = (np.stack([q.half_width(level) for q in pairs], 1) for level in (0.95, 0.9))
    wins = np.zeros(difference.shape)
    for i, row in enumerate(zip(difference, half, half90, p, strict=True)):
        study = [
            Contrast(d, d - h, d + h, d - h90, d + h90, q, 1.0, (), 0.5, 0.0, None, True)
            for d, h, h90, q in zip(*row, strict=True)
        ]
        verdicts = outcomes(study, cell.seeds)
        wins[i] = [{"better": 1, "worse": -1}.get(v, 0) for v in verdicts]
    return {
        "difference": difference, "half": half, "half90": half90, "p": p, "wins": wins,
        "score": arms.mean, "score_half": arms.half_width(0.95),
    }  # fmt: skip


def collect(cell: Cell, studies: int, lead: float, seed: int) -> dict[str, Floats]:
    """`simulate` in chunks that fit memory."""
    rng = np.random.default_rng([seed, cell.seeds, cell.units, int(cell.spread * 10), cell.tasks, int(lead * 1000)])
    size = max(1, CHUNK // (ARMS * cell.seeds * cell.units * cell.tasks))
    parts = [simulate(cell, min(size, studies - start), lead, rng) for start in range(0, studies, size)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def run(cell: Cell, studies: int, seed: int = 0) -> Outcome:
    """Both runs of a cell. For other metrics than accuracy the mean over all simulated studies is taken as true."""
    null, led = collect(cell, studies, 0.0, seed), collect(cell, studies, LEAD, seed)
    accuracy = cell.metric == "accuracy"
    true_lead = LEAD if accuracy else led["difference"][:, 0].mean()
    true_score = ACCURACY if accuracy else null["score"].mean()
    return Outcome(
        pair=float((null["p"] < 0.05).mean()),
        study=float((null["wins"] != 0).any(axis=1).mean()),
        cover=float((np.abs(null["difference"]) <= null["half"]).mean()),
        cover_lead=float((np.abs(led["difference"][:, 0] - true_lead) <= led["half"][:, 0]).mean()),
        score=float((np.abs(null["score"] - true_score) <= null["score_half"]).mean()),
        power=float((led["wins"][:, 0] == 1).mean()),
        equal=float((np.abs(led["difference"][:, 0]) + led["half90"][:, 0] <= true_lead).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    print(f"{studies} studies a cell, {ARMS} arms, accuracy {ACCURACY:.0%}; seed SD in points, the rest in percent")
    names = ("pair", "study", "cover", "cover+3", "score", "power", "equal")
    print("metric     tasks  arms differ  seeds  units  seed SD" + "".join(f"{n:>9}" for n in names), flush=True)
    start, worst = time.perf_counter(), Outcome(0, 0, 1, 1, 1, 1, 0)
    for cell in grid():
        o = run(cell, studies)
        if cell.seeds >= FEWEST_SEEDS:
            worst = replace(
                worst, study=max(worst.study, o.study), pair=max(worst.pair, o.pair), equal=max(worst.equal, o.equal),
                cover=min(worst.cover, o.cover), cover_lead=min(worst.cover_lead, o.cover_lead),
                score=min(worst.score, o.score),
            )  # fmt: skip
        row = f"{cell.metric:<9}{cell.tasks:>7}{'by unit' if cell.by_unit else 'no':>13}"
        row += f"{cell.seeds:>7}{cell.units:>7}{cell.spread:>9}"
        shares = (o.pair, o.study, o.cover, o.cover_lead, o.score, o.power, o.equal)
        print(row + "".join(f"{100 * share:>9.1f}" for share in shares), flush=True)
    print(
        f"from {FEWEST_SEEDS} seeds on: most false: pair {worst.pair:.1%}, study {worst.study:.1%}, "
        f"equal {worst.equal:.1%}; least coverage: {worst.cover:.1%}, with a lead {worst.cover_lead:.1%}, "
        f"of a score {worst.score:.1%}; {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
