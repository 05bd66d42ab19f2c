"""What comes before the clock starts: imports and kernels, for every operation that needs them."""

import subprocess
import sys

import pytest

from tunemerge.graph.operation import OPERATIONS
from tunemerge.merge.method import METHODS
from tunemerge.study import operations  # noqa: F401  (registers the operations)


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_can_be_loaded_beforehand(method):
    OPERATIONS["merge"].prepare({"method": method})


def test_all_that_run_a_model_prepare_alike():
    assert len({OPERATIONS[name].prepare for name in ("init", "tune", "predict")}) == 1


@pytest.mark.parametrize("name", ["predict", "search"])
def test_what_runs_a_model_has_imported_what_it_needs(name):
    code = (
        "import sys; import tunemerge.study.operations; from tunemerge.graph.operation import OPERATIONS\n"
        "assert 'torch' not in sys.modules\n"
        f"OPERATIONS[{name!r}].prepare({{'method': 'ties'}})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"torch", "transformers.trainer"} <= loaded
    assert ("tunemerge.merge.kernels.select" in loaded) == (name == "search")
