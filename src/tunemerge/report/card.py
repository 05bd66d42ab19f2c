"""README.md of an exported model: what it is, how it was made, the evidence for it, licences, digests, limits.

The front matter keeps to what the Hugging Face Hub validates: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tunemerge.errors import UsageError
from tunemerge.report import format as fmt
from tunemerge.report import view
from tunemerge.report.clean import clean_results
from tunemerge.report.markdown import beside_lines, code, contrast_table, leaderboard_table, md, table
from tunemerge.results import ArmResult, Results

# Identifiers of the Hub's licence list that models and data of this kind usually carry; others become "other".
_LICENCES = {
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "afl-3.0", "artistic-2.0",
    "bsl-1.0", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "agpl-3.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl",
    "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "isc", "ms-pl", "ncsa",
    "ofl-1.1", "osl-3.0", "postgresql", "unlicense", "wtfpl", "zlib", "openrail", "bigscience-openrail-m",
    "creativeml-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "openrail++", "gemma", "llama2",
    "llama3", "llama3.1", "llama3.2", "llama3.3", "cdla-permissive-2.0", "odc-by", "odbl", "pddl", "unknown",
}  # fmt: skip
_METRICS = {"macro_f1": "f1", "auroc": "roc_auc"}  # the Hub's names where they differ
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60] or "unnamed"


def _licence(results: Results) -> dict[str, str]:
    found = (results.base_licence or "unknown").strip().lower().replace(" ", "-")
    return {"license": found} if found in _LICENCES else {"license": "other", "license_name": _slug(found)}


def _evidence(results: Results, arm: ArmResult) -> list[dict[str, Any]]:
    kinds = {t.name: t.kind for t in results.tasks}
    return [
        {
            "task": {"type": kinds.get(task, "other")},
            "dataset": {"name": " ".join(task.split()), "type": _slug(task), "split": "test"},
            "metrics": [
                {
                    "type": _METRICS.get(results.metric, results.metric),
                    "value": round(found.score.value, 6),
                    "name": f"test {fmt.metric_name(results.metric)}",
                }
            ],
        }
        for task, found in arm.tasks.items()
    ]


def front_matter(results: Results, arm: ArmResult) -> dict[str, Any]:
    """The metadata block. A base or pool model is named only if its name can be a Hub id."""
    models = [m for m in (results.base, *results.pool.values()) if _HUB_ID.fullmatch(m)]
    kinds = sorted({t.kind for t in results.tasks if t.role in {"task", "target"}})
    meta: dict[str, Any] = {**_licence(results), "library_name": "transformers"}
    if len(kinds) == 1:
        meta["pipeline_tag"] = _slug(kinds[0])
    if models:
        meta["base_model"] = list(dict.fromkeys(models))
        meta["base_model_relation"] = "merge" if arm.merges else "finetune"
    merge = ["merge", *([_slug(arm.method)] if arm.method else [])] if arm.merges else []
    meta["tags"] = ["tunemerge", *merge, _slug(arm.strategy)]
    meta["metrics"] = [_METRICS.get(results.metric, results.metric)]
    meta["model-index"] = [{"name": _slug(f"{results.name}-{arm.name}"), "results": _evidence(results, arm)}]
    return meta


def _chosen_arm(results: Results, name: str | None) -> ArmResult:
    wanted = name if name is not None else results.verdict.handed_back
    for arm in results.arms:
        if arm.name == wanted:
            return arm
    known = ", ".join(a.name for a in results.arms)
    asked = (
        f"the study {results.name!r} has no arm {wanted!r}"
        if wanted
        else f"the study {results.name!r} hands back no arm"
    )
    raise UsageError(f"model card: {asked}; name one of: {known}")


def _made(r: Results, arm: ArmResult, seed: int | None) -> str:
    steps = view.final_steps(r, arm, seed)
    lines = [
        f"{md(arm.description)} Strategy {code(arm.strategy)}"
        + (f", merge method {code(arm.method)}" if arm.method else "")
        + "."
    ]
    here = view.chosen_here(r, arm, seed)
    if here:
        lines.append(f"Chosen for it on validation: {md('; '.join(here))}.")
    if arm.paper:
        lines.append(f"Source of the strategy: arXiv {md(arm.paper)}.")
    lines.append(
        f"It spent {fmt.count(arm.marginal.examples)} training examples, {fmt.flops(fmt.all_flops(arm.marginal))} and "
        f"{fmt.seconds(arm.marginal.seconds)} on top of what existed (a mean over {view.counted(r)})."
    )
    if steps:
        rows = [(md(s.label), code(fmt.short(s.key)), code(s.digest)) for s in steps]
        lines += ["", table(("Last step", "Key", "Digest (sha256)"), rows)]
    return "\n".join(lines)


def _sources(r: Results) -> str:
    rows = [("base", md(r.base), md(r.base_licence or "unknown"))]
    rows += [
        (f"pool: {md(name)}", md(origin), "as base and data" if origin.startswith("made") else "see its source")
        for name, origin in r.pool.items()
    ]
    rows += [(f"data: {md(t.name)} ({t.role})", md(t.data), md(t.licence or "unknown")) for t in r.tasks]
    return table(("What", "From", "Licence"), rows)


def _scores(r: Results, arm: ArmResult) -> str:
    names = list(dict.fromkeys(m for found in arm.tasks.values() for m in found.metrics if m != r.metric))
    rows = [
        [md(task), fmt.score(found.score.value, r.metric), fmt.interval(found.score, r.metric),
         *(fmt.score(found.metrics.get(name), name) for name in names)]
        for task, found in arm.tasks.items()
    ]  # fmt: skip
    head = [
        "Task",
        md(fmt.metric_name(r.metric)),
        f"{100 * r.level:g}% interval",
        *(md(fmt.metric_name(n)) for n in names),
    ]
    return table(head, rows, range(1, len(head)))


def _limits(r: Results, arm: ArmResult) -> str:
    labels = sorted({label for t in r.tasks for label in t.labels})
    kind = ", ".join(sorted({t.kind for t in r.tasks}))
    tests = sum(sum(t.rows.get(split, 0) for split in ("test", "held_out")) for t in r.tasks)
    lines = [
        f"- For {md(kind)} with the labels {', '.join(md(x) for x in labels)}, on texts like those of the data above.",
        f"- Evaluated on {fmt.count(tests)} held-out rows; nothing is known about other languages or domains.",
        f"- Its weakest task was {md(arm.worst_task)}. Biases of the base model and of the data are carried on.",
        "- Not for decisions about people without an evaluation of your own.",
    ]
    return "\n".join(lines)


def render_card(results: Results, arm: str | None = None, seed: int | None = None, task: str | None = None) -> str:
    """The card of an arm's model; by default of what the study hands back. `task`: the one whose head was cut out.

    Raises UsageError for an unknown arm.
    """
    r = view.ordered(clean_results(results))
    found = _chosen_arm(results, arm)
    found = next(a for a in r.arms if a.name == clean_results(results).arms[results.arms.index(found)].name)
    seed = r.verdict.handed_back_seed if seed is None and found.handed_back else seed
    metadata = yaml.safe_dump(front_matter(r, found), sort_keys=False, allow_unicode=True, width=1000)
    title = f"# {md(r.name)}: {md(found.name)}" + (f", {view.run_name(r, seed)}" if seed is not None else "")
    stand = "This is the model that the study hands back." if found.handed_back else (
        f"This is not the model that the study hands back ({md(r.verdict.handed_back or 'it hands back none')})."
    )  # fmt: skip
    parts = [
        title,
        f"{stand} {md(fmt.sentence(r.verdict.handed_back_reason)) if found.handed_back else ''}".rstrip(),
        f"**Verdict of the study ({view.KINDS[r.verdict.kind].lower()}):** {md(r.verdict.sentence)}",
        "\n".join(f"- {md(d)}" for d in r.verdict.details),
        *(f"> {md(n)}" for n in view.notes(r)),
        "## Evidence", f"Test scores of this arm, means over {view.counted(r)}:", _scores(r, found),
        f"All arms of the study, {view.baseline(r)}:", leaderboard_table(r),
        *([contrast_table(r)] if r.contrasts else []), *beside_lines(r),
        "## How it was made", _made(r, found, seed),
        "## Base, pool and data", _sources(r),
        "A merged model stands under the licences of everything that went into it.",
        "## Intended use and limits", _limits(r, found),
        "## Use", _usage(r), _heads(r, task),
        f"Versions: {', '.join(f'{md(k)} {md(v)}' for k, v in {'tunemerge': r.tunemerge, **r.versions}.items())}.",
    ]  # fmt: skip
    return f"---\n{metadata}---\n\n" + "\n\n".join(p for p in parts if p) + "\n"


def _heads(r: Results, task: str | None) -> str:
    """Whose outputs are whose, where the tasks' labels differ."""
    if view.heads(r) < 2:
        return ""
    if task is not None:
        return f"It has the outputs of the task {md(task)}; those of the study's other tasks were cut off."
    rows = [(md(name), ", ".join(md(label) for label in labels)) for name, labels in view.outputs(r).items()]
    told = (
        "It has the outputs of all tasks, found by the labels' names (`tunemerge_heads.json`): take the softmax over "
        "one task's labels. `tunemerge export RUN OUT --task TASK` writes a usual model of one task."
    )
    return f"{told}\n\n{table(('Task', 'Outputs'), rows)}"


def _usage(r: Results) -> str:
    if any(t.kind == "text-classification" for t in r.tasks):
        return (
            "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
            'model = AutoModelForSequenceClassification.from_pretrained(".")\n'
            'tokenizer = AutoTokenizer.from_pretrained(".")\n```'
        )
    return "A plain Hugging Face folder: config.json, model.safetensors, tokenizer."
