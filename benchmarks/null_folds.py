"""How often does a cross-validated study claim a win that is none? With real learning on overlapping training rows.

Each study draws a table of rows whose label depends alike on three independent groups of columns. Three arms learn
(nearest class mean, from their run's adapt rows), each from its own group: they are equally good by symmetry, what each
one learned depends on which rows it saw, and the folds' training rows overlap as in a study. Every run is scored on the
fold that it held out; contrasts, Holm and the decision are those of `tunemerge.stats`. Columns, in percent:

    pair      pairs called different at p < .05 before Holm (nominal 5)
    study     studies with any "better" or "worse" (after Holm)
    cover     95% intervals of a difference that hold the true one, 0
    naive     pairs called different by the uncorrected variance s^2/J (what folds must not be judged by)
    power     studies that call arm 0 better than arm 1 where its columns say more (4 points of accuracy or so)

Run: python benchmarks/null_folds.py [--studies 1000]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunemerge.stats.components import Contrast
from tunemerge.stats.folds import resampled
from tunemerge.stats.holm import holm
from tunemerge.stats.verdict import decide

Floats = NDArray[np.float64]

ARMS = 3
PAIRS = list(itertools.combinations(range(ARMS), 2))


@dataclass(frozen=True)
class Cell:
    """`rows` in all, `folds`, `repetitions` of them, `adapt`: the share of what a fold leaves that arms learn from,
    `columns` of each arm (more of them: what is learned depends more on the rows)."""

    rows: int = 300
    folds: int = 5
    repetitions: int = 1
    adapt: float = 1.0
    columns: int = 5


def grid() -> Iterator[Cell]:
    """The cells that the table shows."""
    for rows, columns in itertools.product((150, 600, 2000), (2, 10, 40)):
        yield Cell(rows, columns=columns)
    for folds, repetitions in ((10, 1), (5, 2), (5, 5), (2, 5)):
        yield Cell(600, folds, repetitions, columns=10)
    yield Cell(100, columns=200)
    for adapt, columns in itertools.product((0.1, 0.5), (5, 20)):
        yield Cell(600, adapt=adapt, columns=columns)


def accuracies(cell: Cell, lead: float, rng: np.random.Generator) -> Floats:
    """Accuracy [ARMS, J] of each arm on what each run held out, of one study."""
    n, d = cell.rows, cell.columns
    label = rng.integers(0, 2, n)
    x = rng.standard_normal((ARMS, n, d))
    shift = np.full(ARMS, 0.9) + lead * (np.arange(ARMS) == 0)
    x[:, :, 0] += shift[:, None] * (2 * label - 1)
    out = []
    for _ in range(cell.repetitions):
        home = np.argsort(np.argsort(rng.random(n))) % cell.folds
        for fold in range(cell.folds):
            train = np.flatnonzero(home != fold)
            train = rng.permutation(train)[: max(4, round(cell.adapt * len(train)))]
            test = home == fold
            one, zero = train[label[train] == 1], train[label[train] == 0]
            high, low = x[:, one].mean(axis=1), x[:, zero].mean(axis=1)
            score = np.einsum("and,ad->an", x[:, test] - ((high + low) / 2)[:, None], high - low)
            out.append(((score > 0) == (label[test] == 1)).mean(axis=1))
    return np.stack(out, axis=1)


@dataclass(frozen=True)
class Found:
    """Of many studies: differences, p values, p values by s^2/J, half-widths and wins, each [studies, pairs]."""

    difference: Floats
    p: Floats
    naive: Floats
    half: Floats
    wins: Floats


def simulate(cell: Cell, studies: int, lead: float = 0.0, seed: int = 0) -> Found:
    rng = np.random.default_rng([seed, cell.rows, cell.folds, cell.repetitions, int(100 * cell.adapt), cell.columns])
    overlap = 1 / (cell.folds - 1)
    scores = np.stack([accuracies(cell, lead, rng) for _ in range(studies)])
    pairs = [scores[:, a] - scores[:, b] for a, b in PAIRS]
    parts, plain = [resampled(d, overlap) for d in pairs], [resampled(d, 0.0) for d in pairs]
    difference, p, half = (
        np.stack(v, 1) for v in zip(*[(q.mean, q.p(), q.half_width(0.95)) for q in parts], strict=True)
    )
    wins = np.zeros(difference.shape)
    runs = cell.folds * cell.repetitions
    for i, row in enumerate(zip(difference, half, p, strict=True)):
        contrasts = [
            Contrast(d, d - h, d + h, d - h, d + h, q, 1.0, (), 0.5, 0.0, None, True)
            for d, h, q in zip(*row, strict=True)
        ]
        verdicts = [decide(c, q, 0.0, runs) for c, q in zip(contrasts, holm([c.p for c in contrasts]), strict=True)]
        wins[i] = [{"better": 1, "worse": -1}.get(v, 0) for v in verdicts]
    return Found(difference, p, np.stack([q.p() for q in plain], 1), half, wins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    print(f"{studies} studies a cell, {ARMS} arms; in percent, SD of a difference in points")
    names = ("pair", "study", "cover", "naive", "power", "SD")
    print("  rows  folds  times  adapt  columns" + "".join(f"{n:>8}" for n in names), flush=True)
    start = time.perf_counter()
    for cell in grid():
        null, led = simulate(cell, studies), simulate(cell, studies, lead=0.15, seed=1)
        shares = (
            (null.p < 0.05).mean(), (null.wins != 0).any(axis=1).mean(), (np.abs(null.difference) <= null.half).mean(),
            (null.naive < 0.05).mean(), (led.wins[:, 0] == 1).mean(), null.difference.std(),
        )  # fmt: skip
        row = f"{cell.rows:>6}{cell.folds:>7}{cell.repetitions:>7}{cell.adapt:>7.0%}{cell.columns:>9}"
        print(row + "".join(f"{100 * share:>8.1f}" for share in shares), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
