"""The Markdown summary, the model card and the terminal."""

import io
import re

import pytest
import yaml
from example import HOSTILE, VARIANTS, example_results, hostile, no_winner
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from tunemerge.errors import UsageError
from tunemerge.report import leaderboard, render_card, render_markdown
from tunemerge.report.markdown import code, md
from tunemerge.report.view import to_settle


def _parsed(text: str) -> list[str]:
    """Types of all inline and block tokens."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [t.type for token in tokens for t in [token, *(token.children or [])]]


@pytest.mark.parametrize(
    "name", [*HOSTILE, "# x", "- x", "1. x", "1) x", "---", "===", "> x", "*a* _b_ ~~c~~", "a_b_c"]
)
def test_text_means_itself(name: str) -> None:
    kinds = set(_parsed(md(name)))
    assert kinds <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}
    shown = re.sub(r"<[^>]+>", "", MarkdownIt("commonmark").render(md(name)))
    assert " ".join(name.split())[:20].replace("\x00", "\ufffd") in shown.replace("&lt;", "<").replace(
        "&gt;", ">"
    ).replace("&quot;", '"').replace("&amp;", "&")


def test_names_and_versions_stay_readable_in_the_source() -> None:
    assert md("merge_then_tune/ties 2204.03044 on 2.13.0") == "merge_then_tune/ties 2204.03044 on 2.13.0"
    assert code("a`b|c") == "`aʼb¦c`"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_summary_is_plain_markdown(variant: str) -> None:
    results = VARIANTS[variant]()
    text = render_markdown(results)
    kinds = set(_parsed(text))
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "fence", "code_block"}
    tables = MarkdownIt("commonmark").enable("table").render(text)
    body = re.findall(r"<tbody>(.*?)</tbody>", tables, re.DOTALL)
    assert body[0].count("<tr>") == len(results.arms) + (results.incumbent is not None)
    if results.contrasts:
        assert body[1].count("<tr>") == len(results.contrasts)
    for row in re.findall(r"<tr>(.*?)</tr>", body[0], re.DOTALL):
        assert row.count("<td") == 8


def test_the_summary_has_the_verdict_and_the_numbers() -> None:
    text = render_markdown(example_results())
    assert text.startswith("# reviews: merge-then-tune (TIES) is better than tune-then-merge: +2.1 points")
    assert re.search(r"merge_then_tune/ties − tune_then_merge/linear \| +\+2\.1 \| +\[0\.8, 3\.4\]", text)
    assert "**Handed back:** merge_then_tune/ties, seed 2." in text
    assert "2 failed or interrupted attempts apart" in text
    assert "of its seeds, seed 2 has the median one.\n" in text
    assert "slerp takes two models" in text


def test_a_table_has_no_column_that_says_nothing() -> None:
    """One target: its pool's sources have no scores, and there is no expert to compare with."""
    results = example_results()
    arms = [a.model_copy(update={"tasks": {"yelp": a.tasks["yelp"]}}) for a in results.arms]
    one = results.model_copy(update={"arms": arms})
    assert "## Tasks" not in render_markdown(one)
    arms = [a.model_copy(update={"tasks": {t: a.tasks[t] for t in ("imdb", "yelp")}}) for a in results.arms]
    text = render_markdown(results.model_copy(update={"arms": arms}))
    assert re.search(r"## Tasks\n\n\| Arm +\| +imdb \| +yelp \|\n", text)


@pytest.mark.parametrize("kind", ["better", "equivalent", "dont_merge", "leads", "inconclusive"])
def test_only_a_claim_is_called_exploratory_beside_the_verdict(kind: str) -> None:
    results = example_results()
    verdict = results.verdict.model_copy(update={"kind": kind})
    again = results.model_copy(update={"verdict": verdict, "test_openings": 2})
    claims = kind in ("better", "equivalent", "dont_merge")
    assert ("exploratory: confirm it" in render_markdown(again)) == claims
    assert "exploratory" not in render_markdown(again.model_copy(update={"test_openings": 1}))


def test_a_settled_contrast_asks_for_no_more_seeds() -> None:
    settled, undecided, _ = example_results().contrasts
    for kind, row, shown in (
        ("better", settled, "–"),
        ("equivalent", undecided, "–"),
        ("inconclusive", undecided, "about 5"),
        ("inconclusive", settled, "–"),  # open for Holm's sake alone: its own interval is off 0 already
        ("leads", settled, "about 5"),
    ):
        assert to_settle(row.model_copy(update={"verdict": kind, "seeds_to_settle": 5})) == shown
    text = render_markdown(example_results())
    assert "Detectable: the true difference" in text and "Seeds to settle: how many" in text


def _front_matter(card: str) -> dict[str, object]:
    _, block, _ = card.split("---\n", 2)
    found = yaml.safe_load(block)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "no_winner"])
def test_the_front_matter_is_what_the_hub_reads(variant: str) -> None:
    from huggingface_hub import ModelCard

    text = render_card(VARIANTS[variant]())
    meta = _front_matter(text)
    assert meta["library_name"] == "transformers"
    assert meta["pipeline_tag"] == "text-classification"
    assert "license" in meta
    card = ModelCard(text)
    assert card.data.eval_results
    assert {r.dataset_name for r in card.data.eval_results} == {
        " ".join(t.replace("\x00", "\ufffd").replace("\u202e", "\ufffd").replace("\u202c", "\ufffd").split())
        for t in VARIANTS[variant]().arms[0].tasks
    }


def test_licence_and_base_model_are_named_only_where_they_are_known() -> None:
    meta = _front_matter(render_card(example_results()))
    assert meta["license"] == "apache-2.0"
    assert meta["base_model"] == ["sentence-transformers/all-MiniLM-L6-v2"]
    meta = _front_matter(render_card(VARIANTS["unknown_total"]()))
    assert meta["license"] == "unknown"
    assert meta["base_model"] == ["someone/amazon-model", "someone/imdb-model", "someone/yelp-model"]
    meta = _front_matter(render_card(hostile()))
    assert meta["license"] == "other"
    assert "base_model" not in meta


def test_the_card_has_evidence_digest_and_limits() -> None:
    results = example_results()
    card = render_card(results)
    arm = results.arms[0]
    (last,) = [
        s for s in results.steps if s.key in arm.steps and s.seed == 2 and s.label == "tune the merge on the mix"
    ]
    assert last.digest in card
    assert "# reviews: merge_then_tune/ties, seed 2" in card
    assert "This is the model that the study hands back." in card
    assert re.search(r"\| amazon +\| +\d\d\.\d% \| +\[\d\d\.\d, \d\d\.\d\]", card)
    for part in ("## Evidence", "## How it was made", "cc-by-4.0", "## Intended use and limits"):
        assert part in card


def test_the_card_of_another_arm_says_so_and_an_unknown_arm_is_refused() -> None:
    card = render_card(example_results(), arm="joint", seed=3)
    assert "This is not the model that the study hands back (merge_then_tune/ties)." in card
    assert _front_matter(card)["base_model_relation"] == "finetune"
    with pytest.raises(UsageError, match=r"no arm 'joynt'; name one of: .*joint"):
        render_card(example_results(), arm="joynt")
    with pytest.raises(UsageError, match="hands back no arm"):
        render_card(no_winner())


def _printed(variant: str, width: int, **options: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, **options).print(leaderboard(VARIANTS[variant]()))  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_terminal_fits_80_columns(variant: str) -> None:
    text = _printed(variant, 80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_the_terminal_shows_each_arm_in_one_line_with_its_numbers() -> None:
    text = _printed("main", 80)
    (line,) = [x for x in text.splitlines() if "merge_then_tune/ties " in x and "%" in x]
    assert line.split() == ["★", "merge_then_tune/ties", "86.4%", "[85.3,", "87.6]", "87.2%", "960", "4.8", "TFLOP"]
    assert "· ensemble" in " ".join(text.split())
    assert "Settled" in text


def test_warnings_are_told_in_the_terminal_and_notes_in_the_report_alone() -> None:
    data = example_results()
    (found,) = data.findings
    note = found.model_copy(update={"severity": "note", "message": "a note"})
    others = [found.model_copy(update={"message": f"warning {i}"}) for i in range(4)]
    out = io.StringIO()
    Console(file=out, width=80).print(leaderboard(data.model_copy(update={"findings": [note, found, *others]})))
    text = " ".join(out.getvalue().split())
    assert "warning: 300 test units see differences of about 1.6 points at best: Give more test rows." in text
    assert text.endswith("and 2 more warnings: see the report") and "a note" not in text


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = _printed("main", 80, force_terminal=True, color_system="truecolor")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    monkeypatch.delenv("NO_COLOR")
    text = _printed("main", 80, force_terminal=True, color_system="truecolor")
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
