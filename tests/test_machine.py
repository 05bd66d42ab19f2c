"""Limits of containers and batch jobs are seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunemerge import machine

V2 = {"job/cpu.max": "100000 100000", "job/step/cpu.max": "max 100000", "job/memory.max": "5000000"}
V2 |= {"job/memory.current": "4000000", "job/memory.stat": "anon 1\ninactive_file 500000"}
V1 = {"cpu,cpuacct/job/step/cpu.cfs_quota_us": "100000", "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000"}
V1 |= {"memory/job/memory.limit_in_bytes": "5000000", "memory/job/memory.usage_in_bytes": "4000000"}
V1 |= {"memory/job/memory.stat": "inactive_file 7\ntotal_inactive_file 500000"}
FREE = {"memory/job/memory.limit_in_bytes": "9223372036854771712", "memory/job/memory.usage_in_bytes": "4000000"}
FREE |= {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("files", "said", "cores", "memory"),
    [
        (V2, "0::/job/step", 1, 1_500_000),
        (V1, "3:cpu,cpuacct:/job/step\n2:memory:/job/step\n1:pids:/x\n0::/", 1, 1_500_000),
        (FREE, "3:cpu,cpuacct:/job\n2:memory:/job", None, None),
        ({}, "", None, None),
    ],
)
def test_the_tightest_control_group_counts(
    files: dict[str, str],
    said: str,
    cores: int | None,
    memory: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "said").write_text(said)
    monkeypatch.setattr(machine, "_ROOT", tmp_path / "groups")
    monkeypatch.setattr(machine, "_SAID", tmp_path / "said")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert machine.cores() == (cores or 3)
    found = machine.free_memory()
    assert found is None or (found == memory if memory else found > 5_000_000)


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    assert machine.threads() == machine.cores() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert machine.threads() == 7
    with machine.limited(3):
        assert machine.threads() == 3
        with machine.limited(None):
            assert machine.threads() == 3
    assert machine.threads() == 7
