"""Which row comes from where, and that the rows arrive whole, in blocks of any size, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizing import Memory, whole
from tunemerge.checkpoint.dtypes import NUMPY, from_float32, to_float32
from tunemerge.merge.vocabulary.apply import remap_models
from tunemerge.merge.vocabulary.gather import GAP_BYTES, SPAN_BYTES, read_rows
from tunemerge.merge.vocabulary.rows import MEAN, PADDING, ZERO, Overrides, choose, row_map

NOTHING = Overrides(*(np.empty(0, np.int64),) * 3, np.empty(0, bool))  # type: ignore[misc, arg-type]
EMBED = "model.embed_tokens.weight"


def overrides(*rules: tuple[int, int, int, bool]) -> Overrides:
    rows, donors, sources, force = zip(*rules, strict=True)
    return Overrides(*(np.array(c, np.int64) for c in (rows, donors, sources)), np.array(force))  # type: ignore[misc, arg-type]


def test_row_map() -> None:
    numbers = np.array([0, 1, 2, 5, 6])
    got = row_map(["a", "b", "c", "d", "e"], numbers, 6, {"b": 0, "a": 1, "d": 2, "c": 9}, limit=9)
    assert got.tolist() == [1, 0, -1, -1, -1, 2]  # c is behind the embeddings, 3 and 4 are nobody's, e has no row


# tokens:             all  only 0  only 2  base+2  0+2   none  padding
MAPS = np.array([[5, 6, -1, -1, 7, -1, -1], [0, -1, -1, 1, -1, -1, -1], [3, -1, 4, 2, 1, -1, -1]])
TOKENS = np.array([1, 1, 1, 1, 1, 1, 0], bool)


def test_the_rule_by_hand() -> None:
    donor, row = choose(MAPS, 1, TOKENS, NOTHING)
    assert donor.tolist() == [
        [0, 0, 2, 1, 0, ZERO, PADDING],
        [1, 0, 2, 1, MEAN, ZERO, PADDING],
        [2, 0, 2, 2, 2, ZERO, PADDING],
    ]
    assert row.tolist() == [[5, 6, 4, 1, 7, -1, -1], [0, 6, 4, 1, -1, -1, -1], [3, 6, 4, 2, 1, -1, -1]]
    without_base, _ = choose(MAPS, None, TOKENS, NOTHING)
    assert without_base[0].tolist() == [0, 0, 2, MEAN, 0, ZERO, PADDING]


def test_rules_for_single_tokens_by_hand() -> None:
    rules = overrides((0, 2, 8, True), (1, 0, 6, False), (4, ZERO, -1, False), (5, 1, 2, False))
    donor, row = choose(MAPS, 1, TOKENS, rules)
    assert donor[:, 0].tolist() == [2, 2, 2] and row[:, 0].tolist() == [8, 8, 8]  # forced on those that have it
    assert donor[:, 1].tolist() == [0, 0, 0] and row[:, 1].tolist() == [6, 6, 6]
    assert donor[:, 4].tolist() == [0, ZERO, 2]  # only where it is missing
    assert donor[:, 5].tolist() == [1, 1, 1] and row[:, 5].tolist() == [2, 2, 2]


def one_by_one(maps: Any, base: int | None, tokens: Any, rules: dict[int, tuple[int, int, bool]]) -> Any:
    """The rule, written token by token."""
    out = []
    for i in range(maps.shape[1]):
        owners = [m for m in range(len(maps)) if maps[m, i] >= 0]
        for m in range(len(maps)):
            if m in owners and not (i in rules and rules[i][2]):
                out.append((m, maps[m, i]))
            elif i in rules:
                out.append(rules[i][:2])
            elif not tokens[i]:
                out.append((PADDING, -1))
            elif len(owners) == 1:
                out.append((owners[0], maps[owners[0], i]))
            elif base in owners:
                out.append((base, maps[base, i]))
            else:
                out.append((MEAN if owners else ZERO, -1))
    return out


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_rule_for_all_tokens_is_the_rule_for_each(data: st.DataObject) -> None:
    models, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    number = st.integers(-1, 9)
    maps = np.array(
        data.draw(st.lists(st.lists(number, min_size=rows, max_size=rows), min_size=models, max_size=models))
    )
    tokens = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    maps[:, ~tokens] = -1
    base = data.draw(st.none() | st.integers(0, models - 1))
    donor = st.sampled_from([ZERO, *range(models)])
    picked = data.draw(st.dictionaries(st.integers(0, rows - 1), st.tuples(donor, st.integers(0, 9), st.booleans())))
    rules = {i: (d, -1 if d == ZERO else r, f) for i, (d, r, f) in picked.items() if tokens[i]}
    given_rules = overrides(*((i, *rule) for i, rule in rules.items())) if rules else NOTHING
    got_donor, got_row = choose(maps, base, tokens, given_rules)
    expected = one_by_one(maps, base, tokens, rules)
    assert list(zip(got_donor.T.reshape(-1), got_row.T.reshape(-1), strict=True)) == expected


class Recorder:
    dtype, where = "F32", "memory"

    def __init__(self, values: Any) -> None:
        self.values, self.reads = values.reshape(-1), list[int]()

    def read_into(self, buffer: Any, start: int) -> None:
        self.reads.append(buffer.size)
        buffer[:] = self.values[start : start + buffer.size]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.data())
def test_rows_are_gathered_in_any_order(scale: int, rows: int, data: st.DataObject) -> None:
    width = (1, 7, GAP_BYTES // 4 + 3)[scale - 1]  # single numbers, short rows, rows longer than a gap
    wanted = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=50)), np.int64)
    values = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    source, out = Recorder(values), np.full((wanted.size, width), np.nan, np.float32)
    read_rows(source, width, wanted, out)
    assert (out == values[wanted]).all()


def test_near_rows_are_one_read_and_far_ones_are_not_read_through() -> None:
    values = np.arange(300_000 * 4, dtype=np.float32).reshape(-1, 4)
    order = np.random.default_rng(0).permutation(20_000)  # 320 kB, all near each other
    source, out = Recorder(values), np.empty((20_000, 4), np.float32)
    read_rows(source, 4, order, out)
    assert len(source.reads) == 1 and (out == values[order]).all()
    far = np.arange(0, 300_000, 100_000)
    source, out = Recorder(values), np.empty((3, 4), np.float32)
    read_rows(source, 4, far, out)
    assert source.reads == [4, 4, 4] and (out == values[far]).all()
    spread = np.arange(0, 300_000, 2_000)  # 32 kB apart: near each other, but 4.8 MB in all
    source, out = Recorder(values), np.empty((spread.size, 4), np.float32)
    read_rows(source, 4, spread, out)
    assert max(source.reads) * 4 <= SPAN_BYTES and (out == values[spread]).all()


def rows_of(seed: int, rows: int, width: int, dtype: str = "F32") -> Any:
    values = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return values.astype(np.float64) if dtype == "F64" else from_float32(values, dtype)


def views(formats: tuple[str, ...], width: int = 5) -> tuple[list[Memory], list[Any]]:
    """Models of 9, 4 and 6 rows in these formats, and their views through the vocabulary of MAPS."""
    sizes = (9, 4, 6)
    models = [Memory(f"m{i}", {EMBED: rows_of(i, sizes[i], width, f)}) for i, f in enumerate(formats)]
    return models, remap_models(models, sizes, (True,) * 3, MAPS, 1, TOKENS, overrides((2, 0, 8, False)))


def test_values_by_hand() -> None:
    models, seen = views(("F32", "F32", "F32"))
    a, b, c = (model.state[EMBED] for model in models)
    mean = ((a[7].astype(np.float64) + c[1]) / 2).astype(np.float32)
    zero = np.zeros(5, np.float32)
    for view, rows in (
        (seen[0], [a[5], a[6], a[8], b[1], a[7], zero]),
        (seen[1], [b[0], a[6], a[8], b[1], mean, zero]),
        (seen[2], [c[3], a[6], c[4], c[2], c[1], zero]),
    ):
        padding = np.mean(np.array(rows, np.float64), 0).astype(np.float32)
        assert (whole(view, EMBED) == np.array([*rows, padding])).all()
        assert view.tensors[EMBED].shape == (7, 5)
    assert seen[0].label == "m0"


@pytest.mark.parametrize("formats", [("F32", "F32", "F32"), ("BF16", "F16", "F32"), ("F64", "BF16", "BF16")])
@pytest.mark.parametrize("width", [1, 5, 8])
def test_blocks_of_any_size_and_threads_give_the_same_bytes(formats: tuple[str, ...], width: int) -> None:
    expected = [whole(view, EMBED).tobytes() for view in views(formats, width)[1]]
    for block in (1, 2, 3, 7, 8, 16, 33):
        for view, wanted in zip(views(formats, width)[1], expected, strict=True):
            assert whole(view, EMBED, block).tobytes() == wanted
    view = views(formats, width)[1][1]
    out = np.empty(7 * width, NUMPY[view.tensors[EMBED].dtype])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: view.source(EMBED).read_into(out[i : i + 1], i), range(out.size)))
    assert out.tobytes() == expected[1]


def test_a_row_from_a_wider_format_keeps_its_bits() -> None:
    models, seen = views(("F32", "BF16", "BF16"))
    assert [view.tensors[EMBED].dtype for view in seen] == ["F32", "F32", "F32"]
    assert (whole(seen[1], EMBED)[1] == models[0].state[EMBED][6]).all()
    assert (whole(seen[1], EMBED)[0] == to_float32(models[1].state[EMBED], "BF16")[0]).all()


def test_a_mean_of_bfloat16_rows_is_rounded_once_at_the_end() -> None:
    models, seen = views(("BF16", "BF16", "BF16"))
    a, c = (to_float32(models[i].state[EMBED], "BF16").astype(np.float64) for i in (0, 2))
    assert seen[1].tensors[EMBED].dtype == "BF16"
    assert (whole(seen[1], EMBED)[4] == from_float32(((a[7] + c[1]) / 2).astype(np.float32), "BF16")).all()


def test_no_row_is_read_that_the_block_does_not_need() -> None:
    models, seen = views(("F32", "F32", "F32"))
    out = np.empty(5, np.float32)
    seen[0].source(EMBED).read_into(out, 5)
    assert [model.read for model in models] == [5, 0, 0]


def test_a_large_vocabulary_in_another_order() -> None:
    rows, width = 30_000, 16
    order = np.random.default_rng(1).permutation(rows)
    models = [Memory("a", {EMBED: rows_of(0, rows, width)}), Memory("b", {EMBED: rows_of(1, rows, width)})]
    maps = np.stack([np.arange(rows), order])
    first, second = remap_models(models, (rows, rows), (True, True), maps, 0, np.ones(rows, bool), NOTHING)
    assert first is models[0]
    assert (whole(second, EMBED, 2**17) == models[1].state[EMBED][order]).all()
