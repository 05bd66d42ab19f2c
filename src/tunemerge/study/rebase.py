"""A study's text with its paths as seen from another folder; everything else, comments too, stays as written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from tunemerge.findings import FindingsError
from tunemerge.yamlfile import parse_yaml


def rebased(text: str, folder: Path, to: Path) -> str:
    """`text`, whose paths are relative to `folder`, with paths relative to the folder `to`. Both are absolute.

    `package:` names, Hub ids and absolute paths stay. `text` must be a valid study.
    """
    spots = {}
    for node, is_model in _paths(yaml.compose(text, Loader=yaml.SafeLoader)):
        new = _moved(str(node.value), folder, to, is_model)
        if new != node.value:
            spots[node.start_mark.index, node.end_mark.index] = json.dumps(new, ensure_ascii=False)
    for (start, end), new in sorted(spots.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def differing_keys(one: str, other: str) -> list[str]:
    """The top-level keys in which two studies differ, whatever their comments and order; all where one is no study."""
    try:
        first, second = (parse_yaml(text, "study")[0] for text in (one, other))
    except FindingsError:
        return ["everything"]
    if not isinstance(first, dict) or not isinstance(second, dict):
        return ["everything"]
    return [key for key in {**first, **second} if first.get(key) != second.get(key)]


def _moved(value: str, folder: Path, to: Path, is_model: bool) -> str:
    if Path(value).expanduser().is_absolute() or value.startswith(("package:", "$")):
        return value
    if is_model and not (folder / value).exists():
        return value  # a Hub id
    return Path(os.path.relpath(folder / value, to)).as_posix()


def _paths(study: yaml.Node | None) -> Iterator[tuple[yaml.Node, bool]]:
    """The values that name files, and whether each names a model."""
    assert study is not None
    for key, value in _items(study):
        if key == "base" and isinstance(value, yaml.ScalarNode):
            yield value, True
        elif key == "base":
            yield from _of_made(value)
        elif key == "pool":
            for _, model in _items(value):
                if isinstance(model, yaml.ScalarNode):
                    yield model, True
                yield from ((node, True) for name, node in _items(model) if name == "model")
                yield from _of_made(model)
        elif key == "plugins" and isinstance(value, yaml.SequenceNode):
            yield from ((file, False) for file in value.value)
        elif key == "tasks":
            for _, task in _items(value):
                for name, node in _items(task):
                    if name == "data" and isinstance(node, yaml.ScalarNode) and node.tag.endswith("str"):
                        yield node, False
                    elif name == "data" and isinstance(node, yaml.SequenceNode):
                        yield from ((file, False) for file in node.value)
                    elif name == "join" and isinstance(node, yaml.SequenceNode):
                        yield from ((v, False) for one in node.value for k, v in _items(one) if k == "table")
                    elif name == "files":
                        yield from ((file, False) for _, file in _items(node))


def _of_made(model: yaml.Node) -> Iterator[tuple[yaml.Node, bool]]:
    """The files of a made model: its weights, and its code where that is a file (FILE:FUNCTION)."""
    for name, node in _items(model):
        if name == "weights" or (name == "build" and ":" in str(node.value)):
            yield node, False


def _items(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """The keys of a mapping, those that `<<` brings in too."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.tag.endswith(":merge"):
            for inherited in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield from _items(inherited)
        else:
            yield key.value, value
