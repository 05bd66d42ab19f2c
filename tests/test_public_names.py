"""The names that README promises, in fresh processes: what is imported first must not change what they are."""

import os
import subprocess
import sys

import pytest

from small import write_table

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def python(code, cwd):
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "before",
    [
        "import tunemerge",
        "import tunemerge; tunemerge.Study",
        "import tunemerge, tunemerge.tune, tunemerge.evaluate, tunemerge.merge",
        "import tunemerge.study.operations",
        "import tunemerge; tunemerge.tune; tunemerge.evaluate; tunemerge.merge",
    ],
)
def test_every_name_can_be_called_whatever_was_imported_before(tmp_path, before):
    code = f"""
{before}
import inspect
from tunemerge import evaluate, merge, tune
for name, function in (("tune", tune), ("evaluate", evaluate), ("merge", merge)):
    import tunemerge
    assert callable(function) and callable(getattr(tunemerge, name)), name
for function in (tune, evaluate):
    assert {{"data", "task", "progress"}} <= set(inspect.signature(function).parameters)
    for again in range(2):
        try:
            function("nowhere", "nothing.csv", *["out"] * (function is tune), text="wrote", label="verdict")
        except tunemerge.errors.UsageError as e:
            assert "nothing.csv: no such file" in str(e)
        else:
            raise AssertionError
"""
    python(code, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_are_loaded_when_used(tmp_path):
    code = "import sys, tunemerge; print(sorted({'torch', 'pandas', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert python(code, tmp_path) == "[]\n"


def test_tune_and_evaluate_twice_in_one_process(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 60, 1)
    (tmp_path / "rows.csv").write_text((tmp_path / "rows.csv").read_text().replace("text,label", "wrote,verdict", 1))
    code = f"""
import tunemerge
for again in range(2):
    told = []
    columns = dict(text="wrote", label="verdict", progress=lambda fraction, message: told.append(fraction))
    tunemerge.tune({str(tiny_bert)!r}, "rows.csv", "out", epochs=1, learning_rate=1e-3, batch_size=8, **columns)
    print(tunemerge.evaluate("out", "rows.csv", **columns).metrics["accuracy"].value)
    assert told and max(told) == 1
"""
    one, two = python(code, tmp_path).split()
    assert one == two and 0 < float(one) <= 1
