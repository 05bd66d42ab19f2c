"""The study as a person uses it: check, plan, run."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tunemerge.findings import Finding, FindingsError, refuse_errors, warning
from tunemerge.graph.attempts import failed_attempts
from tunemerge.graph.events import Event
from tunemerge.graph.executors.base import Executor
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.graph.plan import Plan
from tunemerge.graph.run import needed_keys, run_plan
from tunemerge.progress import Tell, shown
from tunemerge.registry import listed
from tunemerge.report import write_report
from tunemerge.results import PREDICTIONS_FILE, TEXTS_FILE, Results
from tunemerge.store import STORE
from tunemerge.store.artifacts import Store
from tunemerge.store.atomic import make_folder, write_file
from tunemerge.store.collect import sweep
from tunemerge.store.digest import digest_json
from tunemerge.store.holds import holding, is_live
from tunemerge.store.journal import Journal
from tunemerge.study.collect import RunFacts, collect
from tunemerge.study.config import StudyConfig
from tunemerge.study.events import noting_cached, told
from tunemerge.study.examine import LeftOut, examine
from tunemerge.study.export import export_arm, is_at_hand, model_key
from tunemerge.study.places import Places, in_order
from tunemerge.study.plan import StudyPlan
from tunemerge.study.read import StudyFileError, load_study, register_kinds
from tunemerge.study.rebase import differing_keys, rebased
from tunemerge.study.restore import restore, restoring_plan
from tunemerge.study.run_folder import STUDY_FILE
from tunemerge.study.scores import Evidence
from tunemerge.study.uses import RESULTS_FILE, by_rule, read_uses, write_plan
from tunemerge.tune.trackers import tracking

_NO_RESULT = ("keep", "trackers")  # keys on which no result depends


@dataclass(frozen=True)
class Study:
    """A study file in a folder. Paths in it are relative to `folder`; the store and the runs lie in `workdir`."""

    config: StudyConfig
    folder: Path
    workdir: Path
    text: str
    places: Places = field(default_factory=Places)
    left_out: LeftOut = field(default_factory=LeftOut)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: list[str] | None = None, workdir: str | Path = ".") -> Study:
        """Read a study file. Raises FindingsError with every unknown key and bad value, and its line."""
        path = Path(path)
        config, places, text = load_study(path, overrides)
        return cls(config, path.resolve().parent, Path(workdir).resolve(), text, places)

    @classmethod
    def from_dict(cls, study: dict[str, Any], folder: str | Path = ".", workdir: str | Path = ".") -> Study:
        """A study from Python values: what the YAML file would hold. Raises pydantic's ValidationError."""
        register_kinds(study, Path(folder).resolve())
        config = StudyConfig.model_validate(study)
        text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
        return cls(config, Path(folder).resolve(), Path(workdir).resolve(), text)

    @classmethod
    def check_file(cls, path: str | Path, overrides: list[str] | None = None) -> list[Finding]:
        """Everything that is wrong with a study file, its data and its models, or worth knowing. Nothing is written."""
        path = Path(path)
        try:
            return cls.from_yaml(path, overrides).check()
        except StudyFileError as e:
            if e.rest is None:
                return list(e.findings)
            rest = cls(e.rest, path.resolve().parent, Path().resolve(), "", e.places, LeftOut(e.left_out, not e.whole))
            return in_order([*e.findings, *rest.check()])
        except FindingsError as e:
            return list(e.findings)

    @property
    def store(self) -> Store:
        return Store(self.workdir / STORE)

    @property
    def run_folder(self) -> Path:
        return self.workdir / "runs" / self.config.name

    def check(self) -> list[Finding]:
        """Everything that is wrong or worth knowing, all at once. Nothing is written, nothing is trained."""
        _, found = examine(self.config, self.folder, self.store, self.places, self.left_out)
        return in_order([*found, *self.overwrites()])

    def plan(self) -> StudyPlan:
        """The graph of all steps. Raises FindingsError with all findings when there are errors among them."""
        plan, found = examine(self.config, self.folder, self.store, self.places, self.left_out)
        refuse_errors(found)
        assert plan is not None
        return plan

    def overwrites(self) -> list[Finding]:
        """A warning where the run folder has results of other settings, which a run of this study replaces."""
        old = self.run_folder / STUDY_FILE
        if not (self.run_folder / RESULTS_FILE).exists() or not old.exists() or not self.text:
            return []
        keys = differing_keys(old.read_text("utf-8"), self._text_in(self.run_folder))
        differ = [key for key in keys if key not in _NO_RESULT]
        if not differ:
            return []
        text = f"has the results of a study with other settings ({listed(differ)}); a run replaces them"
        return [warning("overwrites", text, str(self.run_folder), "to keep both: --set name=ANOTHER")]

    def _text_in(self, folder: Path) -> str:
        return rebased(self.text, self.folder, folder)

    def run(
        self,
        on_plan: Callable[[StudyPlan], None] = lambda plan: None,
        on_event: Callable[[Event], None] | None = None,
        executor: Executor | None = None,
        progress: Tell | None = None,
    ) -> Results:
        """Run what the store lacks; write results, report and the model handed back into `runs/<name>/`.

        `progress(fraction, message)` is told how far it is; without it, and without `on_event`, a terminal or notebook
        shows a bar.
        After a kill or an error, running again goes on where it was. Raises FindingsError before anything is done,
        StepFailedError when a step fails (the others are kept), KeyboardInterrupt.
        """
        plan = self.plan()
        on_plan(plan)
        make_folder(self.run_folder)
        with holding(self.store.root, f"study-{secrets.token_hex(6)}", needed_keys(plan.graph)):
            results = self._run(plan, on_event, executor, progress)
        if plan.config.keep != "all":
            self._let_go(plan)
        return results

    def _run(
        self,
        plan: StudyPlan,
        on_event: Callable[[Event], None] | None,
        executor: Executor | None,
        progress: Tell | None,
    ) -> Results:
        """What `run` does while the store holds what the plan needs."""
        journal = Journal(self.run_folder / "journal.jsonl")
        with self._run_folder_locked():
            write_file(self.run_folder / STUDY_FILE, self._text_in(self.run_folder).encode())
            write_plan(plan, self.run_folder)
        plan.rows.write(plan.graph.leaves)
        cached: set[str] = set()
        openings = self._open_test(plan.graph)
        with ExitStack() as stack:
            stack.enter_context(tracking(plan.config.trackers, plan.config.name, self.run_folder / "trackers"))
            if on_event is None:
                on_event = told(len(plan.graph.steps), stack.enter_context(shown(self.config.name, progress)))
            heard = noting_cached(cached, on_event)
            workers = stack.enter_context(LocalExecutor()) if executor is None else executor
            artifacts = run_plan(plan.graph, self.store, workers, journal, heard)
        failed, seconds = failed_attempts(journal, partial(is_live, self.store.root))
        facts = RunFacts(frozenset(cached), failed, seconds, openings, self.text)
        evidence = Evidence(plan, artifacts, self.store)
        results = collect(plan, evidence, facts)
        with self._run_folder_locked():
            write_file(self.run_folder / RESULTS_FILE, results.model_dump_json(indent=1).encode())
            for name, table in ((PREDICTIONS_FILE, evidence.table), (TEXTS_FILE, evidence.texts)):
                write_file(self.run_folder / name, _as_parquet(table))
            write_report(results, self.run_folder)
            if results.verdict.handed_back:
                out, key = self.run_folder / "model", model_key(results)
                again = None if is_at_hand(self.store, out, key) else restoring_plan(plan, key)
                if again is not None:
                    restore(plan, again, self.store, journal, executor)
                export_arm(results, self.store, out, kept=out)
        return results.at(self.run_folder)

    def _run_folder_locked(self) -> AbstractContextManager[bool]:
        """One process at a time writes into a run's folder, where several run the same study."""
        return self.store.lock(digest_json(str(self.run_folder)))

    def _let_go(self, plan: StudyPlan) -> None:
        """Remove the models of this plan's steps that no run in this folder keeps."""
        uses, own = read_uses(self.workdir / "runs"), {step.key for step in plan.graph.steps}
        choose = by_rule(uses, {key for use in uses for key in use.kept()})
        sweep(self.store, lambda entry: choose(entry) if entry.key in own else "keep", loose=False)

    def _open_test(self, graph: Plan) -> int:
        """Which opening of these test sets this plan is: 1 for the first plan that reads them. Recorded beforehand."""
        tests = sorted(leaf.key for leaf in graph.leaves if leaf.role == "test")
        plan = digest_json(sorted(s.key for s in graph.steps))
        entries = [e for e in self.store.journal.read() if e.get("event") == "test_opened"]
        plans = list(dict.fromkeys(e["plan"] for e in entries if set(e["tests"]) & set(tests)))
        if plan not in plans:
            self.store.journal.append({"event": "test_opened", "plan": plan, "tests": tests, "study": self.config.name})
            plans.append(plan)
        return plans.index(plan) + 1


def _as_parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
