"""Runs a recipe: finds its models, makes what its documents name, merges, publishes by renaming."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from tunemerge.data.seen import pass_on
from tunemerge.findings import Finding, refuse_errors
from tunemerge.machine import limited, threads
from tunemerge.merge.recipe.card import CARD, model_card
from tunemerge.merge.recipe.documents import Reading
from tunemerge.merge.recipe.inputs import Found, find_places, input_digests, open_places
from tunemerge.merge.recipe.needs import needs
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.parts import Place, Recipe
from tunemerge.merge.recipe.preflight import preflight
from tunemerge.merge.recipe.prepare import prepared
from tunemerge.merge.recipe.provenance import Digests, Recorded, facts_of
from tunemerge.merge.recipe.write import output_config, write_model
from tunemerge.merge.runner import Progress, silent
from tunemerge.merge.target import refuse_target, work_folder
from tunemerge.store import STORE
from tunemerge.store.atomic import replace_folder

Tell = Callable[[Sequence[Finding]], None]


def merge_recipe(
    recipe: Recipe,
    out: Path,
    options: Options | None = None,
    *,
    recorded: Recorded | None = None,
    progress: Progress = silent,
    tell: Tell = lambda findings: None,
) -> Path:
    """Run a recipe into the model folder `out`, which exists only once it is complete.

    `out` may be the output of an earlier merge, which stays until the new one is there. With `recorded` the recipe
    comes from a merged model, and its inputs must be those of then. `tell` gets the warnings before work begins.
    Models are looked for from the current folder, then from the recipe's, then on the Hub. Raises FindingsError,
    before anything is written, with everything that is wrong.
    """
    out, options = Path(out), options or Options()
    tell(recipe.findings)

    def look() -> None:
        """Before what takes long, what can be known without it."""
        refuse_errors(preflight(Reading(recipe, recipe.places, ()), recipe.path, out, options, recorded).findings)

    inputs = open_recipe(recipe, recorded, before_download=look)
    refuse_target(out, [one.path for one in inputs.values()])
    if len(recipe.documents) > 1:
        look()

    @cache
    def digests() -> Digests:  # reads every weight the first time, so after what costs nothing to find out
        return input_digests(inputs, options.threads or threads())

    if recorded is not None:
        recorded.refuse_changes(digests())
    made, rest = _intermediates(recipe, inputs, digests, options, progress)
    with prepared(recipe.output, {**inputs, **made}, seed=options.seed, waive=options.allow_crimes) as ready:
        tell(refuse_errors([*ready.findings, *output_config(ready)[1], *needs(ready.plan, out, options)]))
        facts = facts_of(recipe.text, options, ready.plan, inputs, digests(), out)
        with work_folder(out) as work:
            record = write_model(ready, work, options, facts, rest)
            pass_on([one.path for one in inputs.values()], work)
            (work / CARD).write_text(model_card(out.name, recipe, record, inputs), "utf-8")
            replace_folder(work, out)
    return out


def open_recipe(
    recipe: Recipe, recorded: Recorded | None, *, before_download: Callable[[], None]
) -> dict[Place, Found]:
    """Everything that the recipe reads, opened. FindingsError with all that can't be."""
    old = recorded or Recorded(Path(), 0, False, {})
    wanted = {place: old.commit(place) for place in recipe.places}
    before = {at: old.find(place) for place, at in wanted.items()}
    found, missing = find_places(wanted.values(), recipe.path.parent, download=False, known=before.get)
    opened, faults = open_places(found)
    refuse_errors(faults)
    if missing:
        before_download()
        found, missing = find_places([p for p in wanted.values() if p not in opened], recipe.path.parent, download=True)
        more, faults = open_places(found)
        refuse_errors([*missing, *faults])
        opened |= more
    return {place: opened[at] for place, at in wanted.items()}


def _intermediates(
    recipe: Recipe,
    inputs: Mapping[Place, Found],
    digests: Callable[[], Digests],
    options: Options,
    progress: Progress,
) -> tuple[dict[Place, Found], Progress]:
    """The intermediates that the output reads, made where the store lacks them; and how to tell what is left."""
    if len(recipe.documents) == 1:
        return {}, progress
    from tunemerge.graph.events import Event, StepProgress
    from tunemerge.graph.executors.inline import InlineExecutor
    from tunemerge.graph.plan import Plan
    from tunemerge.graph.run import run_plan
    from tunemerge.merge.recipe.steps import intermediate_steps
    from tunemerge.store.artifacts import Store

    params = {"seed": options.seed, "allow_crimes": options.allow_crimes, "device": options.device}
    steps = intermediate_steps(recipe, inputs, digests(), params)
    names, total = list(steps), len(recipe.documents)

    def watch(event: Event) -> None:
        if isinstance(event, StepProgress):
            progress((names.index(event.label) + event.fraction) / total, f"{event.label}: {event.message}")

    needed = {Place(ref.path): steps[ref.path] for ref in recipe.output.models if ref.path in steps}
    store = Store(STORE)
    with limited(options.threads):
        artifacts = run_plan(Plan.of(needed.values()), store, InlineExecutor(), on_event=watch)
    for step in needed.values():
        store.verify_input(artifacts[step.key].path)
    made, faults = open_places({place: artifacts[step.key].path for place, step in needed.items()})
    refuse_errors(faults)
    return made, lambda fraction, message: progress((total - 1 + fraction) / total, message)
