"""The documentation: pages made from code are up to date, the site has every page, the tutorial does what it says."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[1] / "docs"
_spec = spec_from_file_location("pages", DOCS / "pages.py")
pages = module_from_spec(_spec)
_spec.loader.exec_module(pages)


@pytest.mark.parametrize("name", pages.PAGES)
def test_pages_made_from_code_are_up_to_date(name):
    assert (DOCS / name).read_text("utf-8") == pages.PAGES[name](), "run: make pages"


def test_every_page_is_in_the_navigation():
    text = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r"[\w-]+\.md", text[text.index("nav:") :]))
    assert listed == {path.name for path in DOCS.glob("*.md")}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_yaml_in_pages_can_be_read(page):
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
        assert yaml.safe_load(block.replace("{...}", "{}"))


@pytest.mark.slow
def test_the_tutorial_runs_as_written(tmp_path):
    text = (DOCS / "tutorial.md").read_text("utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}

    def done(command):
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, (command, run.stdout[-2000:], run.stderr[-2000:])
        return run.stdout

    said = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.S | re.M):
        if language == "yaml":
            (tmp_path / "study.yaml").write_text(block)
        elif language == "python":
            said.append(done([sys.executable, "-c", block]))
        else:
            for line in re.findall(r"^\$ tunemerge (.*)$", block, re.M):
                said.append(done([sys.executable, "-m", "tunemerge", *shlex.split(line)]))
    assert (tmp_path / "my-model" / "model.safetensors").exists()
    assert any("merge_then_tune" in text for text in said) and "accuracy" in said[-1]
