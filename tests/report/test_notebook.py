"""A study in a notebook: progress, then verdict and report in the cell; a real kernel where there is one."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from example import example_results

from tunemerge.notebook import in_notebook
from tunemerge.progress import shown


def test_results_show_verdict_and_page_without_scripts():
    results = example_results()
    html = results._repr_html_()
    assert results.verdict.sentence.split(",")[0].split("&")[0] in html
    assert "<iframe srcdoc=" in html and 'sandbox="allow-same-origin allow-popups"' in html
    assert "<script" not in html and html.count('"') == 8  # those of four attributes: the page within is quoted


def test_progress_goes_to_the_cell(monkeypatch):
    """With a stand-in for IPython that records what a browser would be sent."""
    sent = []

    def display(html, display_id):
        sent.append(html)
        return SimpleNamespace(update=sent.append)

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.HTML, module.display = str, display
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    assert in_notebook()
    with shown("reviews", None) as tell:
        tell(0.5, "8 of 16 steps, <tune>")
        tell(1.0, "16 of 16 steps")
    assert "50% reviews: 8 of 16 steps, &lt;tune&gt;" in sent[1] and 'value="1.0000"' in sent[2] and sent[-1] == ""


def test_a_notebook_runs_a_study(tmp_path, tiny_bert):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    from small import write_study

    study = write_study(tmp_path, tiny_bert, strategies=["merge_only"], methods=["linear"], candidates=1, seeds=1)
    code = f"import os\nos.chdir({str(tmp_path)!r})\nimport tunemerge\ntunemerge.Study.from_dict({study!r}).run()"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    seen = []

    class Watched(nbclient.NotebookClient):
        def process_message(self, msg, cell, cell_index):
            seen.append((msg["msg_type"], str(msg["content"].get("data", {}).get("text/html", ""))))
            return super().process_message(msg, cell, cell_index)

    Watched(book, timeout=300).execute()
    updates = [html for kind, html in seen if kind == "update_display_data"]
    assert any("small:" in html and "steps" in html for html in updates)
    (result,) = [o for o in book.cells[0].outputs if o.output_type == "execute_result"]
    assert "<iframe srcdoc=" in result.data["text/html"] and (tmp_path / "runs" / "small" / "report.html").exists()
