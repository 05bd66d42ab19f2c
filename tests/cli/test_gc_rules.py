"""What --keep says: of runs, of ages, of sizes, and of nothing."""

import time

import pytest

from tunemerge.cli.store import choice_of
from tunemerge.errors import UsageError
from tunemerge.store.inventory import Entry
from tunemerge.study.uses import RunUse, Use

NOW = time.time()


def entry(key: str, hours: float, model: bool = True) -> Entry:
    return Entry(key, "tune", key, "complete", model, 1_000_000_000, NOW - 3600 * hours, {}, frozenset())


def a_run(name: str, keys: str, keep: str = "all", finished: bool = True) -> RunUse:
    """The first step is the winner's model, the first two are models of arms."""
    steps = {key: Use(("arm",), 0) for key in keys}
    return RunUse(name, keep, finished, steps, frozenset(keys[:2]), frozenset(keys[:1]))


STEPS = [entry(key, hours) for hours, key in enumerate("abcdefg")]  # g belongs to no run
RUNS = [a_run("one", "abc"), a_run("two", "cde", keep="winner"), a_run("half", "f", keep="winner", finished=False)]


def fates(*keep: str) -> str:
    """A letter a step: k(eep), s(trip), r(emove)."""
    choose = choice_of(keep, RUNS, STEPS)
    return "".join(choose(e)[0] for e in STEPS)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ((), "kkkssk" + "r"),  # what each study says; a step of two runs stays if one keeps it
        (("all",), "kkkkkkr"),
        (("models",), "kkkkskr"),
        (("winner",), "ksksskr"),  # an unfinished run keeps all, so that it can go on
        (("runs/one",), "kkksssr"),
        (("two",), "sskkksr"),
        (("2.5h",), "kkksssr"),
        (("3GB",), "kkksssr"),
        (("two", "4GB"), "kskkksr"),
        (("winner", "1M"), "ksksskr"),
        (("nothing",), "rrrrrrr"),
    ],
)
def test_rules(keep, expected):
    assert fates(*keep) == expected


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (("winer",), "did you mean 'winner'"),
        (("nothing", "all"), "no other --keep"),
        (("5 parsecs",), "expected a run, an age"),
    ],
)
def test_what_is_no_rule_is_refused(keep, said):
    with pytest.raises(UsageError, match=said):
        fates(*keep)
