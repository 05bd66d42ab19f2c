"""What the given checkpoints cost before the study, by the records that `tunemerge tune` leaves in their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, error, warning
from tunemerge.graph.cost import Cost, total
from tunemerge.graph.step import Leaf
from tunemerge.store.remember import file_digest
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_given import PoolModel
from tunemerge.tune.record import CURVE_FILE, TuneRecord, fingerprint_of, read_record, weights_digest


def read_records(config: StudyConfig, models: Mapping[str, Leaf]) -> tuple[dict[str, TuneRecord], list[Finding]]:
    """The records of the pool's given checkpoints, by name, and what doesn't fit to them: other weights than those that
    the record is of, another base, another number of examples."""
    records: dict[str, TuneRecord] = {}
    found: list[Finding] = []
    known = _ancestors(models["base"].path) if "base" in models else set()
    for name in config.pool:
        if name not in models:
            continue
        folder, key = models[name].path, f"pool.{name}"
        try:
            record = read_record(folder)
            if record is None:
                continue
            if weights_digest(folder, file_digest) != record.model:
                text = f"{folder}: its weights are not those that {CURVE_FILE} is the record of"
                fix = f"send the whole folder again; where the model was changed on purpose, delete {CURVE_FILE}"
                found.append(error("record-mismatch", text, key, fix))
                continue
        except TunemergeError as problem:
            found.append(error("bad-record", str(problem), key, f"send the folder again, or delete {CURVE_FILE}"))
            continue
        if known and record.base not in known:
            text = f"was tuned from another model than this study's base, says its {CURVE_FILE}"
            found.append(warning("other-base", text, key, "tune all models of a pool from one base"))
        given = config.pool[name]
        stated = given.examples if isinstance(given, PoolModel) else None
        if stated is not None and stated != record.cost.examples:
            text = f"{stated} examples here, {record.cost.examples} in {CURVE_FILE}, which counts"
            found.append(warning("pool-cost", text, f"{key}.examples", "leave `examples` out"))
        records[name] = record
    return records, found


def given_examples(config: StudyConfig, records: Mapping[str, TuneRecord]) -> dict[str, int]:
    """What is known of the cost of given checkpoints, in training examples."""
    stated = {n: m.examples for n, m in config.pool.items() if isinstance(m, PoolModel) and m.examples is not None}
    return {**stated, **{name: record.cost.examples for name, record in records.items()}}


def made_elsewhere(records: Mapping[str, TuneRecord], names: Sequence[str]) -> Cost | None:
    """What these checkpoints cost together; None where one of them has no record."""
    return total(records[n].cost for n in names) if all(n in records for n in names) else None


def _ancestors(base: Path) -> set[str]:
    """The fingerprint of the study's base, and of what that was tuned from."""
    try:
        record = read_record(base)
        return {fingerprint_of(base), *([record.base] if record else [])}
    except TunemergeError:  # reported by the checks of the files
        return set()
