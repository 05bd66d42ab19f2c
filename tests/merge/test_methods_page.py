"""docs/methods.md says what the registry says."""

from __future__ import annotations

from pathlib import Path

from tunemerge.merge.method import METHODS
from tunemerge.merge.page import methods_page

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_is_up_to_date() -> None:
    assert DOCS.read_text("utf-8") == methods_page() + "\n", "run: tunemerge list methods --markdown > docs/methods.md"


def test_every_parameter_of_every_method_is_on_it() -> None:
    page = methods_page()
    for name, method in METHODS:
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert all(f"| `{p.name}` |" in section for p in method.parameters), name
        assert method.paper in section, name
