"""What a person reads when a file is not as expected."""

from io import StringIO

import pytest
import yaml
from rich.console import Console
from rich.table import Table

from commands import command
from small import TUNING, write_study, write_table
from tunemerge.cli.output import print_table
from tunemerge.tune.single import tune


@pytest.fixture
def study(tmp_path, tiny_bert):
    content = write_study(tmp_path, tiny_bert, strategies=["joint", "sequential"], seeds=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


def test_check_refuses_a_table_with_a_comma_too_many(study):
    header, first, *rest = (study / "b.csv").read_text().splitlines()
    (study / "b.csv").write_text("\n".join([header, "nice place, " + first, *rest]) + "\n")
    done = command("check", "study.yaml", cwd=study)
    assert done.returncode == 2 and "b.csv line 2: 3 fields, the header has 2" in done.stdout
    assert "study.yaml:" in done.stdout and "tasks.b" in done.stdout
    refused = command("run", "study.yaml", cwd=study)
    assert refused.returncode == 2 and "3 fields" in refused.stderr and not (study / "runs").exists()


def test_settings_by_set_are_checked_before_anything_is_read(tmp_path):
    done = command("tune", "nowhere", "nothing.csv", "out", "-s", "learning_rat=1", "-s", "epochs=3", cwd=tmp_path)
    assert done.returncode == 2 and "unknown setting 'learning_rat'; did you mean 'learning_rate'" in done.stderr
    assert "unknown setting 'epochs'" in done.stderr


def test_evaluate_says_which_metrics_the_rows_leave_out(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 40, 1)
    tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "tuned", epochs=1, **TUNING)
    (tmp_path / "test.csv").write_text("wrote,verdict\ngood,positive\nbad,negative\n")
    done = command("evaluate", "tuned", "test.csv", "--text", "wrote", "--label", "verdict", cwd=tmp_path)
    assert done.returncode == 0 and "accuracy" in done.stdout
    assert "no auroc: undefined when one unit is left out" in done.stdout
    done = command("evaluate", "tuned", "test.csv", cwd=tmp_path)
    assert done.returncode == 2 and "the columns are: wrote, verdict" in done.stderr and "--text NAME" in done.stderr


def test_the_page_of_all_keys(tmp_path):
    done = command("schema", "--markdown", cwd=tmp_path)
    assert done.returncode == 0 and "| `retention` |" in done.stdout and done.stdout.startswith("# study.yaml")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_table_that_no_terminal_reads_breaks_no_name(terminal):
    name = "tune_then_merge_of_my_own/" + "a_method_with_a_long_name/" * 4
    console = Console(file=StringIO(), force_terminal=terminal, width=80, no_color=True)
    table = Table("arm", "score")
    table.columns[0].overflow = "fold"
    table.add_row(name, "0.8")
    print_table(console, table)
    assert (name in console.file.getvalue()) == (not terminal)
