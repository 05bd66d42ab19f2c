"""Tasks of the Language Model Evaluation Harness (Gao et al.; the package lm-eval): documents, contexts and scores.

Which documents there are, what stands before an answer and what an answer is worth is the harness's own code; what is
trained, split and compared is the study's. The package is imported where it is asked for.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tunemerge.errors import UsageError
from tunemerge.registry import listed, nearest

_TYPES = ("multiple_choice", "loglikelihood", "generate_until")


@dataclass(frozen=True)
class Asked:
    """How a task of the harness is run: its settings by the names that the harness has for them. `score` is the metric
    that counts; None: the first that the task has."""

    num_fewshot: int | None = None
    apply_chat_template: bool = False
    gen_kwargs: Mapping[str, Any] | None = None
    include_path: str | None = None
    model_args: Mapping[str, Any] | None = None
    score: str | None = None


def task_of(name: str, asked: Asked) -> Any:
    """The harness's task. UsageError where the package or the task is missing, or can't be used here."""
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise UsageError("a task of the harness needs the package lm-eval: pip install 'tunemerge[lm-eval]'") from None
    manager = _manager(asked.include_path, own=True) if asked.include_path else None
    if manager is None or name not in manager.all_subtasks:
        manager = _manager(asked.include_path, own=False)
    if name not in manager.all_subtasks:
        raise UsageError(f"the harness has no task {name!r}{nearest(name, manager.all_subtasks)}; tasks of your own: "
                         "include_path, the folder of their YAML files")  # fmt: skip
    try:
        (task,) = manager.load([name])["tasks"].values()
    except Exception as e:  # whatever a task's own code or the reading of its data set raises
        raise UsageError(f"the harness can't load {name!r}: {type(e).__name__}: {e}") from e
    why = _refusal(task, asked.score)
    if why:
        raise UsageError(f"the harness's task {name!r} {why}")
    if task.OUTPUT_TYPE == "generate_until" and asked.gen_kwargs:
        task.set_config("generation_kwargs", dict(asked.gen_kwargs), update=True)
    return task


def documents_of(task: Any, asked: Asked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The documents that are evaluated, and the examples that stand before each: never one of the former."""
    from lm_eval.api.samplers import FirstNSampler

    count = shots_of(task, asked)
    pool = list(task.fewshot_docs() or []) if count else []
    if len(pool) < count:
        raise UsageError(f"num_fewshot is {count}, and {task.task_name} has {len(pool)} documents to take them from")
    first = isinstance(getattr(task, "sampler", None), FirstNSampler)
    shots = pool[:count] if first else random.Random(0).sample(pool, count)
    return [doc for doc in task.eval_docs if doc not in shots], shots


def shots_of(task: Any, asked: Asked) -> int:
    """How many examples stand before a document."""
    return (task.config.num_fewshot or 0) if asked.num_fewshot is None else asked.num_fewshot


def metric_of(task: Any, score: str | None) -> str:
    """The metric that counts."""
    return score or next(iter(task.aggregation()))


def requests_of(task: Any, doc: Mapping[str, Any], shots: Sequence[Any], tokenizer: Any, asked: Asked) -> list[Any]:
    """What the harness asks a model for one document; `tokenizer` is used for its chat template alone."""
    task.sampler = _Given(shots)
    render = {"apply_chat_template": asked.apply_chat_template, "chat_template": _chat(tokenizer, asked)}
    context = task.fewshot_context(dict(doc), len(shots), gen_prefix=task.doc_to_prefix(doc), **render)
    found = task.construct_requests(doc=dict(doc), ctx=context, metadata=(task.task_name, 0, 1), **render)
    return found if isinstance(found, list) else [found]


def right_answer(task: Any, doc: Mapping[str, Any], requests: Sequence[Any], chat: bool = False) -> tuple[str, str]:
    """What a model reads of a document and the answer that is right, as one follows the other."""
    target = task.doc_to_target(dict(doc))
    target = target[0] if isinstance(target, list) else target
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(dict(doc))
        context, answer = requests[choices.index(target) if isinstance(target, str) else int(target)].args[:2]
        return context, answer
    context, answer = requests[0].args[:2]
    return context, answer if task.OUTPUT_TYPE == "loglikelihood" else ("" if chat else _delimiter(task)) + str(target)


def scores_of(
    net: Any, tokenizer: Any, asked: Asked, rows: Sequence[tuple[Any, Mapping[str, Any], Sequence[Any]]], room: int
) -> list[float]:
    """What every answer is worth by the harness. `rows`: the task, the document and its examples; `room`: the longest
    row in tokens."""
    from lm_eval.models.huggingface import HFLM

    settings = {"batch_size": 16, "max_length": room, **(asked.model_args or {})}
    lm = HFLM(pretrained=net, tokenizer=tokenizer, **settings)
    asked_of = [requests_of(task, doc, shots, tokenizer, asked) for task, doc, shots in rows]
    by_type: dict[str, list[Any]] = {}
    for request in (r for requests in asked_of for r in requests):
        by_type.setdefault(request.request_type, []).append(request)
    for kind, requests in by_type.items():
        for request, answer in zip(requests, getattr(lm, kind)(requests, disable_tqdm=True), strict=True):
            request.resps.append(answer)
    out = []
    for (task, doc, _), requests in zip(rows, asked_of, strict=True):
        task._instances = requests
        task.apply_filters()
        (key, *_) = requests[0].filtered_resps
        found = task.process_results(dict(doc), [r.filtered_resps[key] for r in sorted(requests, key=lambda r: r.idx)])
        out.append(float(found[metric_of(task, asked.score)]))
    return out


def as_json(document: Any, name: str) -> str:
    """A document as it is kept in a row. UsageError for one that is more than text and numbers."""
    try:
        return json.dumps(document, ensure_ascii=False, sort_keys=True)
    except TypeError as e:
        raise UsageError(f"documents of {name!r} are more than text and numbers: {e}") from e


@dataclass(frozen=True)
class _Given:
    """In place of the harness's sampler: the same examples before every document."""

    shots: Sequence[Any]

    def sample(self, n: int, eval_doc: Any = None) -> Sequence[Any]:
        return self.shots[:n]


@cache
def _manager(include_path: str | None, own: bool) -> Any:
    """What tasks there are; `own`: those of `include_path` alone, since reading all of the harness takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include_path, include_defaults=not own)


def _refusal(task: Any, score: str | None) -> str | None:
    """Why a task can't be one of a study."""
    from lm_eval.api.metrics import mean

    if task.OUTPUT_TYPE not in _TYPES or task.multiple_input or getattr(task, "MULTIMODAL", False):
        return f"asks in a way that has no right answer to learn ({task.OUTPUT_TYPE}): {listed(_TYPES)} can be used"
    if getattr(task, "UNSAFE_CODE", False):
        return "runs code that a model writes, and is not run here"
    known = task.aggregation()
    if metric_of(task, score) not in known:
        return f"has no metric {score!r}{nearest(str(score), list(known))}; it has {listed(known)}"
    name = metric_of(task, score)
    if known[name] is not mean or not task.higher_is_better()[name]:
        return f"has {name!r}, which is no mean over documents where more is better; say `score:` ({listed(known)})"
    return None


def _chat(tokenizer: Any, asked: Asked) -> Any:
    if not asked.apply_chat_template:
        return None
    if not tokenizer.chat_template:
        raise UsageError("apply_chat_template: the model's tokenizer has no chat template")

    def render(messages: Any, add_generation_prompt: bool = True) -> str:
        return str(tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        ))  # fmt: skip

    return render


def _delimiter(task: Any) -> str:
    return task.config.target_delimiter or ""
