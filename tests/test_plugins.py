"""Code of a person's own: loading it, refusing it, and finding what it is made of."""

import sys
import textwrap

import pytest

from tunemerge.findings import FindingsError
from tunemerge.plugin_code import read_plugin
from tunemerge.plugins import ensure_plugin, load_plugin, load_plugins, used_plugins
from tunemerge.registry import REGISTRIES, NameTakenError
from tunemerge.stats.metrics import METRICS

METRIC = """
from tunemerge.stats.metrics import METRICS, Metric

METRICS.add("{name}", Metric("{name}", True, lambda target, logits, weights: weights.sum(axis=1) * {factor}))
"""


@pytest.fixture
def write(own_code):
    """A function that writes a file."""

    def make(name, text):
        file = own_code / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(textwrap.dedent(text))
        return file

    return make


def value(name):
    import numpy as np

    return METRICS[name].fn(np.zeros(2, int), np.zeros((2, 2)), np.ones(2))


def test_a_file_registers_and_an_edit_takes_the_place_of_what_it_was(write):
    file = write("mine.py", METRIC.format(name="mine", factor=1))
    plugin = load_plugin(file)
    assert value("mine") == 2 and METRICS.plugin("mine") == plugin
    assert load_plugin(file) is plugin
    write("mine.py", METRIC.format(name="other", factor=3))
    assert load_plugin(file).digest != plugin.digest
    assert value("other") == 6 and "mine" not in METRICS


def test_an_edit_of_a_module_beside_it_counts_even_where_it_is_imported_late(write):
    write("pack/__init__.py", "")
    write("pack/deep.py", "FACTOR = 1\n")
    write("helper.py", "def factor():\n    from pack.deep import FACTOR\n    return FACTOR\n")
    file = write("mine.py", "import helper\n" + METRIC.format(name="mine", factor="helper.factor()"))
    write("stranger.py", "1 / 0\n")
    first = load_plugin(file)
    assert [f.name for f in first.files] == ["mine.py", "helper.py", "__init__.py", "deep.py"]
    assert value("mine") == 2
    write("stranger.py", "2 / 0\n")
    assert load_plugin(file) is first
    write("pack/deep.py", "FACTOR = 5\n")  # as long as before, and within the same second
    assert load_plugin(file).digest != first.digest and value("mine") == 10


def test_the_digest_is_that_of_the_code_wherever_it_lies(write, tmp_path):
    text = "from sub.a import X\nimport json, numpy\n"
    one, two = (write(f"{folder}/m.py", text) for folder in ("one", "two"))
    for folder in ("one", "two"):
        write(f"{folder}/sub/a.py", "from . import b\n")
        write(f"{folder}/sub/b.py", "import m\n")
        write(f"{folder}/json.py", folder)
    assert [f.relative_to(tmp_path / "one").as_posix() for f in read_plugin(one).files] == [
        "m.py", "sub/a.py", "sub/b.py",
    ]  # fmt: skip
    assert read_plugin(one).digest == read_plugin(two).digest
    write("two/sub/b.py", "import m \n")
    assert read_plugin(one).digest != read_plugin(two).digest


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("def f(:\n    pass\n", 1, "SyntaxError"),
        ("import no_such_module_here\n", 1, "No module named 'no_such_module_here'"),
        ("\nimport sys\nsys.exit(3)\n", 3, "SystemExit: 3"),
    ],
)
def test_what_fails_is_one_finding_and_leaves_everything_as_it_was(write, tmp_path, text, line, said):
    file = write("mine.py", METRIC.format(name="early", factor=1).strip() + "\n" + text)
    before = {r.kind: r.names() for r in REGISTRIES}, list(sys.path), set(sys.modules)
    (finding,) = load_plugins({"plugins.0": file})
    assert finding.where == f"plugins.0 ({file}:{line + 3})" and said in finding.message
    assert finding.code == "plugin" and finding.severity == "error"
    assert ({r.kind: r.names() for r in REGISTRIES}, list(sys.path), set(sys.modules)) == before


def test_a_failing_edit_keeps_what_was_there(write):
    file = write("mine.py", METRIC.format(name="mine", factor=1))
    plugin = load_plugin(file)
    write("mine.py", METRIC.format(name="mine", factor=2) + "\n1 / 0\n")
    with pytest.raises(FindingsError, match="division by zero"):
        load_plugin(file)
    assert value("mine") == 2 and METRICS.plugin("mine") == plugin
    write("mine.py", METRIC.format(name="mine", factor=2))
    load_plugin(file)
    assert value("mine") == 4


def test_a_name_that_is_taken_is_refused_with_both_places(write):
    (finding,) = load_plugins({"plugins.0": write("mine.py", METRIC.format(name="accuracy", factor=1))})
    assert "there is a metric 'accuracy' already, in tunemerge.stats.measures.classes (built in)" in finding.message
    assert finding.message.endswith("mine.py:4 needs another name") and METRICS["accuracy"].is_mean
    one = write("one.py", METRIC.format(name="mine", factor=1))
    load_plugin(one)
    (finding,) = load_plugins({"plugins.1": write("two.py", METRIC.format(name="mine", factor=2))})
    assert f"already, in {one}:4" in finding.message and "two.py:4 needs" in finding.message
    assert value("mine") == 2


def test_what_is_no_python_file_is_said(write, tmp_path):
    found = load_plugins({"a": tmp_path / "none.py", "b": tmp_path, "c": write("notes.txt", "x = 1\n")})
    said = [f.message for f in found]
    assert said[0].endswith("no such file") and "is a folder" in said[1] and "must end in .py" in said[2]


def test_a_module_beside_it_that_another_one_shadows_is_refused(write):
    write("numpy.py", "")
    (finding,) = load_plugins({"a": write("mine.py", "import numpy\n")})
    assert "imports numpy from beside it, but that name belongs to" in finding.message


def test_registered_by_hand_is_known_as_that(write):
    file = write("mine.py", METRIC.format(name="by_hand", factor=1))
    exec(compile(file.read_text(), str(file), "exec"), {"__name__": "mine"})
    assert METRICS.by_hand("by_hand") and not METRICS.by_hand("accuracy")
    with pytest.raises(NameTakenError, match=r"already, in .*mine.py:4"):
        exec(compile(file.read_text(), "other.py", "exec"), {"__name__": "other"})
    load_plugin(file)  # takes its place: the same file
    assert not METRICS.by_hand("by_hand")


def test_another_process_has_exactly_this_code_or_says_so(write):
    file = write("mine.py", METRIC.format(name="mine", factor=1))
    digest = load_plugin(file).digest
    (told,) = used_plugins(["something", digest])
    assert told == {"path": str(file), "package": None, "digest": digest}
    ensure_plugin(**told)
    write("mine.py", METRIC.format(name="mine", factor=2))
    with pytest.raises(Exception, match="changed since the plan was made"):
        ensure_plugin(**told)
