"""The models of a merge, each seen through the common vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.naming import is_word_table, may_be_word_head
from tunemerge.checkpoint.source import Model, Source
from tunemerge.errors import UsageError
from tunemerge.merge.vocabulary.gather import widest
from tunemerge.merge.vocabulary.rows import MEAN, ZERO, Flags, Ints, Overrides, choose
from tunemerge.merge.vocabulary.tensors import vocabulary_tensors
from tunemerge.merge.vocabulary.view import RemappedModel, RemappedSource


class Held(NamedTuple):
    """A model's tensor, how many rows it has, and whether it is an input embedding that stands for an output head."""

    name: str
    rows: int
    shared: bool = False


def remap_models(
    models: Sequence[Model],
    sizes: Sequence[int | None],
    tied: Sequence[bool],
    maps: Ints,
    base: int | None,
    is_token: Flags,
    overrides: Overrides,
) -> list[Model]:
    """See `Vocabulary.apply`. `sizes` are the vocabularies' sizes by config.json, the rest as in `rows.choose`.

    The input embeddings of a model with `tied` ones are also its output head where another model has one of its own: a
    head's missing rows come from heads then, and from no embeddings that mean something else.
    Names may differ by a prefix (`bert.`), as they do when one model was saved with a head and another without.
    """
    found = [vocabulary_tensors(model.tensors, size) for model, size in zip(models, sizes, strict=True)]
    _refuse_without(models, found, sizes)
    opened = [_opener(model) for model in models]
    infos: list[dict[str, TensorInfo]] = [{} for _ in models]
    sources: list[dict[str, RemappedSource]] = [{} for _ in models]

    @cache
    def chosen(limits: tuple[int, ...]) -> tuple[NDArray[np.int16], Ints, Ints]:
        limited = np.where(maps < np.array(limits)[:, None], maps, -1)
        return *choose(limited, base, is_token, overrides), limited

    for name in dict.fromkeys(name for tensors in found for name in tensors):
        places = [_place(name, *each) for each in zip(models, found, tied, strict=True)]
        width = _width(name, models, places)
        donor, row, limited = chosen(tuple(place.rows if place else 0 for place in places))
        _refuse_rules(name, models, places, overrides)
        for i, model in enumerate(models):
            place = places[i]
            if place is None or (_own_name(name, infos[i]) if place.shared else place.name != name):
                continue
            info = model.tensors[place.name]
            if place.rows == is_token.size and (donor[i] == i).all() and (row[i] == np.arange(is_token.size)).all():
                continue
            dtype = widest({info.dtype, *_formats(donor[i], models, places)})
            shape = (1, is_token.size) if info.shape[0] == 1 else (is_token.size, *info.shape[1:])
            infos[i][name] = TensorInfo(dtype, shape, 0, 0)
            sources[i][name] = RemappedSource(
                opened=[partial(opened[k], p.name) if p else None for k, p in enumerate(places)],
                donor=donor[i],
                row=row[i],
                maps=limited,
                width=width,
                dtype=dtype,
                where=f"{model.label}: {name}",
            )
    return [RemappedModel(model, infos[i], sources[i]) if sources[i] else model for i, model in enumerate(models)]


def _opener(model: Model) -> Callable[[str], Source]:
    return cache(model.source)


def _place(name: str, model: Model, found: dict[str, int], tied: bool) -> Held | None:
    """Where the model has the rows of this tensor; None where it has nothing of the kind."""
    own = _own_name(name, model.tensors)
    if own in found:
        return Held(own, found[own])
    if own is not None:
        text = f"{model.label}: {own} has the shape {list(model.tensors[own].shape)}"
        rows = next(iter(found.values()))
        raise UsageError(f"{text}; in another model it has one row a token, which here are {rows:,}: not one format")
    head = name.endswith("weight") and may_be_word_head(name)
    shared = next(filter(is_word_table, found), None) if tied and head else None
    return Held(shared, found[shared], shared=True) if shared else None


def _own_name(name: str, tensors: Iterable[str]) -> str | None:
    """The model's tensor of this name, else the only one whose name is longer or shorter by a prefix."""
    if name in tensors:
        return name
    close = [own for own in tensors if own.endswith(f".{name}") or name.endswith(f".{own}")]
    return close[0] if len(close) == 1 else None


def _width(name: str, models: Sequence[Model], places: Sequence[Held | None]) -> int:
    widths = {}
    for model, place in zip(models, places, strict=True):
        if place:
            info = model.tensors[place.name]
            if info.dtype not in FLOATS:
                raise UsageError(
                    f"{model.label}: {name} is {info.dtype}; only rows of floats can be put in another order"
                )
            widths[model.label] = math.prod(info.shape) // place.rows
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{label}: {width}" for label, width in widths.items())
        raise UsageError(f"{name}: the models' embeddings differ in width ({listed}); they can't be merged")
    return next(iter(widths.values()))


def _formats(donor: NDArray[np.int16], models: Sequence[Model], places: Sequence[Held | None]) -> set[str]:
    """The formats of the tensors that rows come from."""
    used = set(np.unique(donor).tolist())
    return {
        model.tensors[place.name].dtype
        for k, (model, place) in enumerate(zip(models, places, strict=True))
        if place and (k in used or MEAN in used)
    }


def _refuse_without(models: Sequence[Model], found: Sequence[dict[str, int]], sizes: Sequence[int | None]) -> None:
    lacking = [
        f"{model.label}: no embeddings" + (f" of {size:,} rows, the vocab_size of its config.json" if size else "")
        for model, tensors, size in zip(models, found, sizes, strict=True)
        if not tensors
    ]
    if lacking:
        text = "; ".join(lacking)
        raise UsageError(f"{text}: nothing to bring to a common vocabulary; remove the recipe's tokenizer keys")


def _refuse_rules(name: str, models: Sequence[Model], places: Sequence[Held | None], overrides: Overrides) -> None:
    for donor, source in zip(overrides.donors.tolist(), overrides.sources.tolist(), strict=True):
        if donor == ZERO:
            continue
        place = places[donor]
        if place is None:
            raise UsageError(f"{models[donor].label}: has no {name}, from which a token of the recipe is to come")
        if source >= place.rows:
            text = f"a token of the recipe is to come from row {source:,}, and it has {place.rows:,} rows"
            raise UsageError(f"{models[donor].label}: {name}: {text}")
