"""Recipes in which something is not what it should be: always findings, never a crash."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tunemerge.errors import TunemergeError
from tunemerge.merge.recipe.documents import read_recipe

WHOLE: list[dict[str, Any]] = [
    {
        "name": "one",
        "merge_method": "ties",
        "base_model": "o/base",
        "models": [
            {"model": "o/a@v1+o/lora", "parameters": {"weight": [0, 0.5, 1], "density": 0.5}},
            {"model": {"model": {"path": "o/b", "revision": "x"}, "lora": {"path": "o/l"}}},
            {"model": "o/base"},
        ],
        "parameters": {"weight": [{"filter": "mlp", "value": [0.1, 0.2]}, {"value": 1}], "normalize": "no"},
        "dtype": "bfloat16",
        "out_dtype": "float32",
        "tokenizer": {
            "source": "union",
            "tokens": {"<x>": {"source": {"kind": "model_token", "model": "o/a", "token": "y"}, "force": True}},
            "pad_to_multiple_of": 8,
        },
        "chat_template": "chatml",
        "average": ["score."],
        "align": {"method": "weight_matching"},
    },
    {
        "merge_method": "slerp",
        "base_model": "one",
        "modules": {
            "default": {
                "slices": [
                    {
                        "sources": [
                            {"model": "one", "layer_range": [0, 4], "parameters": {"weight": 1}},
                            {"model": "o/c", "layer_range": [1, 5]},
                        ],
                        "base_model": "one",
                        "residual_weight": 0.1,
                        "parameters": {"t": [0, 1]},
                    }
                ],
                "parameters": {"t": 0.5},
            },
            "vision_tower": {"models": [{"model": "one"}, {"model": "o/c"}]},
        },
        "parameters": {"t": 0.3},
        "tokenizer_source": "base",
    },
]
ODD = [
    None,
    True,
    0,
    -1,
    3.5,
    "",
    " ",
    "+",
    "@",
    "a@b@c",
    "../x",
    [],
    {},
    [[]],
    [None],
    {"a": {}},
    {3: 4},
    float("nan"),
    "é\0",
]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def test_anything_anywhere() -> None:
    rng = random.Random(0)
    every = [at for at in places(WHOLE) if at]
    outcomes = {True: 0, False: 0}
    for _ in range(300):
        data = copy.deepcopy(WHOLE)
        for at in rng.sample(every, rng.choice((1, 1, 2, 3))):
            try:
                home: Any = data
                for key in at[:-1]:
                    home = home[key]
                if rng.random() < 0.2 and isinstance(home, dict):
                    home[rng.choice(("modles", "t", 7, "source", "name"))] = home.pop(at[-1])
                else:
                    home[at[-1]] = copy.deepcopy(rng.choice(ODD))
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took this place away
        text = yaml.safe_dump_all(data, allow_unicode=True, sort_keys=False)
        try:
            reading = read_recipe(text, Path("recipe.yaml"))
        except TunemergeError:
            outcomes[False] += 1
            continue
        sound = not any(f.severity == "error" for f in reading.findings)
        assert not sound or reading.recipe is not None
        outcomes[sound] += 1
    assert min(outcomes.values()) > 5, outcomes


def test_the_recipe_itself_is_fine() -> None:
    assert not [f for f in read_recipe(yaml.safe_dump_all(WHOLE), Path("r.yaml")).findings if f.severity == "error"]
