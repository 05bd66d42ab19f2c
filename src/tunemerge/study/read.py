"""Reading study.yaml: every unknown key and bad value at once, each with its line."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tunemerge.findings import Finding, FindingsError, error, note
from tunemerge.plugins import load_plugins
from tunemerge.registry import nearest
from tunemerge.schema_errors import said
from tunemerge.strategies.written import WrittenStep, WrittenStrategy
from tunemerge.study.config import DEFAULT_KIND, StudyConfig
from tunemerge.study.config_given import BuiltModel, IncumbentConfig, PoolModel
from tunemerge.study.config_splits import SplitsConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.config_tuning import Budget
from tunemerge.study.places import Places, dotted
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import LoraConfig, TuneConfig
from tunemerge.tune.search_config import Between, TuningSearch
from tunemerge.yamlfile import KeyPath, Lines, load_yaml, parse_yaml

_PARTS: dict[str, type[BaseModel]] = {
    "base": BuiltModel,
    "tasks": TaskConfig,
    "pool": PoolModel,
    "incumbent": IncumbentConfig,
    "budget": Budget,
    "pool_budget": Budget,
    "tuning": TuneConfig,
    "tuning.lora": LoraConfig,
    "tuning_search": TuningSearch,
    "splits": SplitsConfig,
}
# The keys that arms are made of.
_ARMS = ("base", "pool", "tasks", "target", "retention", "unseen", "strategies", "methods")
# No budget is too small beside this one.
_ANY_BUDGET = {"steps": 10**9}


class StudyFileError(FindingsError):
    """Keys or values of a study file are wrong. `rest` is the study without them, if that is one: the check goes on
    with it, so that what is wrong with its data and models is found in the same go. `left_out` are tasks and models
    that `rest` lacks; `whole` says whether nothing that its arms are made of is left out."""

    def __init__(
        self, findings: list[Finding], rest: StudyConfig | None, left_out: frozenset[str], whole: bool, places: Places
    ) -> None:
        super().__init__(findings)
        self.rest, self.left_out, self.whole, self.places = rest, left_out, whole, places


def load_study(path: Path, overrides: list[str] | None = None) -> tuple[StudyConfig, Places, str]:
    """The study in `path`, where its keys stand, and the text as used (with overrides applied).

    `overrides` are `key.sub=value` with a YAML value. Raises FindingsError with everything that is wrong.
    """
    data, lines = load_yaml(path)
    if not isinstance(data, dict):
        raise FindingsError([error("study-empty", "a study is a mapping of keys", str(path))])
    given = [_override(data, text, lines) for text in overrides or []]
    places = Places(path.name, lines, tuple(g for g in given if isinstance(g, tuple)))
    found = [g for g in given if isinstance(g, Finding)]
    text = path.read_text(encoding="utf-8")
    if overrides:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    register_kinds(data, path.resolve().parent)
    try:
        config = StudyConfig.model_validate(data)
    except ValidationError as e:
        wrong = {_key(p["loc"]) for p in e.errors()}
        rest, findings = _rest(data, wrong), [*found, *_explain(e, data, places)]
        left_out = sorted({key[:2] for key in wrong if key[:1] in (("tasks",), ("pool",)) and len(key) > 1}, key=str)
        if rest is None:
            findings.append(note("unchecked", "more may show when these are mended: models and data were not checked"))
        else:
            text = "not checked further until its keys are mended"
            findings += [note("unchecked", text, dotted(key)) for key in left_out]
        names, whole = frozenset(str(k[1]) for k in left_out), not any(k[0] in _ARMS for k in wrong if k)
        raise StudyFileError(places.placed(findings), rest, names, whole, places) from None
    if found:
        raise FindingsError(found)
    return config, places, text


def register_kinds(study: Any, folder: Path) -> None:
    """Load the plug-ins that a study names, so that the keys of their kinds of tasks are known when it is read. What is
    wrong with them is said by the check."""
    plugins = study.get("plugins") if isinstance(study, dict) else None
    if isinstance(plugins, list):
        load_plugins({str(p): folder / Path(p).expanduser() for p in plugins if isinstance(p, str)})


def _rest(data: Mapping[str, Any], wrong: Iterable[KeyPath]) -> StudyConfig | None:
    """The study without its wrong parts: whole tasks and models, else whole keys. A budget that is wrong, or that is
    in batches of wrong tuning, becomes a large one."""
    rest = copy.deepcopy(dict(data))
    for key in wrong:
        inner = rest.get(key[0]) if key else None
        if key[:1] in (("tasks",), ("pool",)) and len(key) > 1 and isinstance(inner, dict):
            inner.pop(key[1], None)
        elif key:
            rest.pop(key[0], None)
    spoilt = {key[0] for key in wrong if key}
    for budget in ("budget", "pool_budget"):
        if budget in spoilt or "tuning" in spoilt:
            rest[budget] = _ANY_BUDGET
    rest.setdefault("name", "study")
    try:
        return StudyConfig.model_validate(rest)
    except ValidationError:
        return None


def _override(data: dict[str, Any], text: str, lines: Lines) -> KeyPath | Finding:
    """Put the value into `data`; its key path, or what is wrong."""
    key, equals, raw = text.partition("=")
    if not equals:
        return error("bad-override", f"{text!r} is not key=value", "--set")
    value, _ = parse_yaml(raw, f"--set {key}")
    *parents, last = key.split(".")
    place = data
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            return error("bad-override", f"{parent!r} of {key!r} holds a value, not keys", "--set")
        place = inner
    place[last] = value
    return (*parents, last)


def _explain(problem: ValidationError, data: Mapping[str, Any], places: Places) -> list[Finding]:
    found = []
    for key, e in _fitting(problem, data):
        name, where = dotted(key), places.of(key)
        if e["type"] == "extra_forbidden":
            known = sorted(_known_at(key[:-1], data))
            found.append(error("unknown-key", f"unknown key {name!r}{nearest(str(key[-1]), known)}", where))
        elif e["type"] == "missing":
            found.append(error("missing-key", f"key {name!r} is required", where))
        else:
            found.append(error("bad-value", said(e), name or where))
    return found


def _fitting(problem: ValidationError, data: Mapping[str, Any]) -> list[tuple[KeyPath, Any]]:
    """The errors with their keys; where a value may be of several types, only those of the type that it seems to be."""
    out: list[tuple[KeyPath, Any]] = []
    for e in problem.errors():
        at = _branch_at(e["loc"])
        branch = str(e["loc"][at]) if at < len(e["loc"]) else None
        if branch is None or branch == _seems(_value(data, e["loc"][:at]), branch):
            out.append((_key(e["loc"]), e))
    return out


def _seems(value: Any, branch: str) -> str:
    """The branch of pydantic's union that a value was meant for."""
    if branch in ("PoolModel", "BuiltModel", "WrittenStrategy") or branch.startswith("dict"):
        return branch if isinstance(value, dict) else "str"
    if "Between" in branch:
        return "" if isinstance(value, list) else branch
    if branch in ("str", "int"):
        return "" if isinstance(value, dict) else "str"
    return branch if branch.startswith("list") == isinstance(value, list) else ""


def _branch_at(loc: tuple[Any, ...]) -> int:
    """Where in an error's place pydantic names the branch of a union, instead of a key of the file."""
    if loc[:1] == ("pool",) and loc[-1] != "[key]":
        return 2
    if loc[:1] == ("strategies",):
        return 2
    if loc[:1] in (("seeds",), ("base",)):
        return 1
    if loc[:2] == ("incumbent", "predictions") or (loc[:1] == ("tuning_search",) and loc[1:2] != ("schedule",)):
        return 2
    if loc[:1] == ("tasks",) and loc[2:3] == ("data",):
        return 3
    return 4 if loc[:1] == ("tasks",) and loc[2:3] == ("where",) and loc[-1] != "[key]" else len(loc)


def _key(loc: tuple[Any, ...]) -> KeyPath:
    at = _branch_at(loc)
    return tuple(x for x in (*loc[:at], *loc[at + 1 :]) if x != "[key]")


def _value(data: Any, key: tuple[Any, ...]) -> Any:
    for part in key:
        inside = isinstance(data, Mapping) or (isinstance(data, list) and isinstance(part, int) and part < len(data))
        data = (data.get(part) if isinstance(data, Mapping) else data[part]) if inside else None
    return data


def _known_at(loc: KeyPath, data: Mapping[str, Any]) -> list[str]:
    """The keys that there are at a place of the study."""
    model = _PARTS.get(dotted(loc)) or (_PARTS.get(str(loc[0]), StudyConfig) if loc else StudyConfig)
    if loc[:1] == ("strategies",) and len(loc) > 1:
        model = WrittenStep if "steps" in loc else WrittenStrategy
    if loc[:1] == ("tuning_search",) and len(loc) > 1:
        model = Between
    known = list(model.model_fields)
    if model is TaskConfig:
        task = _value(data, loc)
        kind = (task or {}).get("kind", data.get("task", DEFAULT_KIND))
        known += TASKS[kind].Options.model_fields if kind in TASKS else []
    return known
