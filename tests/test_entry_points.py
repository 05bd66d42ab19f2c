"""Code of installed packages, found by entry points, in fresh processes."""

import os
import subprocess
import sys

import pytest

POINTS = """
[tunemerge.metrics]
{points}
"""
METRIC = """
from own_package.maths import half
from tunemerge.stats.metrics import METRICS, Metric

METRICS.add("{name}", Metric("{name}", True, half))
"""


@pytest.fixture
def package(tmp_path):
    """A function: install a package with these entry points; then run code beside it."""

    def install(points, name="half"):
        files = {
            "own_package/__init__.py": "",
            "own_package/maths.py": "def half(target, logits, weights):\n    return weights.sum(axis=1) / 2\n",
            "own_package/metric.py": METRIC.format(name=name),
            "own_package/broken.py": "from tunemerge.stats.metrics import METRICS, Metric\n\n1 / 0\n",
            "own_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n",
            "own_package-1.0.dist-info/entry_points.txt": POINTS.format(points="\n".join(points)),
        }
        for file, text in files.items():
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(text)

    def run(*arguments):
        path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    install.run = run
    return install


def test_what_an_installed_package_registers_is_there(package, tmp_path):
    package(["half = own_package.metric"])
    code = """
from tunemerge.stats.metrics import METRICS
print(METRICS.names(), METRICS.problems)
print([f.name for f in METRICS.plugin("half").files], METRICS.code("half"), METRICS.code("accuracy"))
"""
    names, files = package.run("-c", code).splitlines()
    assert "'half'" in names and "'accuracy'" in names and names.endswith(" []")
    assert files.startswith("['metric.py', '__init__.py', 'maths.py'] {'metric half': ") and files.endswith(" {}")
    (tmp_path / "own_package" / "maths.py").write_text("def half(target, logits, weights):\n    return 1\n")
    assert package.run("-c", code).splitlines()[1] != files


def test_a_worker_has_the_same_code(package, tmp_path):
    package(["half = own_package.metric"])
    code = """
from tunemerge.stats.metrics import METRICS
from tunemerge.plugins import ensure_plugin, used_plugins
told = used_plugins(METRICS.code("half").values())
print(told)
ensure_plugin(**told[0])
"""
    assert "'package': 'own_package'" in package.run("-c", code)


@pytest.mark.parametrize(
    ("points", "name", "said"),
    [
        (
            ["a = own_package.broken", "half = own_package.metric"],
            "half",
            "broken.py:3): can't be loaded: ZeroDivision",
        ),
        (["a = own_package.nowhere", "half = own_package.metric"], "half", "No module named 'own_package.nowhere'"),
        (
            ["auroc = own_package.metric"],
            "auroc",
            "there is a metric 'auroc' already, in tunemerge.stats.measures.classes",
        ),
    ],
)
def test_what_is_broken_is_a_warning_and_the_rest_is_there(package, points, name, said):
    package(points, name)
    code = "from tunemerge.stats.metrics import METRICS; print(METRICS.names(), *METRICS.problems, sep='\\n')"
    names, problem = package.run("-c", code).splitlines()[:2]
    assert ("half" in names) == (len(points) == 2) and "auroc" in names
    assert problem.startswith("warning[plugin] entry point tunemerge.metrics: a") and said in problem
    assert "of own-package (" in problem
