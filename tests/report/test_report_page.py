"""The page as text: escaped, complete in itself, traceable, legible in both themes."""

import base64
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from example import HOSTILE, VARIANTS, example_results

from tunemerge.report import render_html, write_report
from tunemerge.results import Results

ALLOWED = {"href", "src", "id", "class", "content", "name", "lang", "charset", "role", "scope", "colspan", "title"}
TAGS = {"script", "iframe", "object", "embed", "img", "form", "base", "link", "foreignobject", "use", "image"}


@cache
def _page(variant: str) -> str:
    return render_html(VARIANTS[variant]())


class _Reader(HTMLParser):
    """Collects tags with attributes, text, ids and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[Results, str, _Reader]:
    results = VARIANTS[request.param]()
    page = _page(request.param)
    return results, page, _Reader(page)


def test_nothing_in_the_page_can_act(variant: tuple[Results, str, _Reader]) -> None:
    _, page, read = variant
    assert "<script" not in page.lower()
    found = {tag for tag, _ in read.tags} & TAGS
    assert found <= {"link"}
    for tag, attributes in read.tags:
        assert not [a for a in attributes if a.startswith("on") or a == "style" or a == "srcset"], (tag, attributes)


def test_hostile_names_arrive_as_text() -> None:
    page = _page("hostile")
    read = _Reader(page)
    text = "".join(read.text)
    for name in HOSTILE[:3]:
        assert name in text
        assert name not in page.replace("a" * 400, "") or name == "a" * 400
    for char in "\x00\u202e\u202c":
        assert char not in page


def test_nothing_is_fetched(variant: tuple[Results, str, _Reader]) -> None:
    _, page, read = variant
    ids = {a["id"] for _, a in read.tags if a.get("id")}
    for tag, attributes in read.tags:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            if target is None:
                continue
            assert target.startswith(("#", "data:")), (tag, target)
            if target.startswith("#"):
                assert target[1:] in ids, f"dead link {target}"
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_allows_this_style_sheet_and_nothing_else() -> None:
    page = _page("main")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy[1].replace("&#39;", "'")
    assert policy[1].startswith("default-src ")
    assert "unsafe" not in policy[1]
    assert "script-src" not in policy[1]


def _pictures(page: str) -> Iterator[ElementTree.Element]:
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        yield ElementTree.fromstring(picture)


def test_every_picture_is_xml_with_a_text_alternative(variant: tuple[Results, str, _Reader]) -> None:
    _, page, _ = variant
    pictures = list(_pictures(page))
    assert len(pictures) >= 5
    for picture in pictures:
        assert picture.get("role") == "img"
        title, desc = picture.find("title"), picture.find("desc")
        assert title is not None and title.text
        assert desc is not None and desc.text
        assert picture.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
        assert "nan" not in re.sub(r"[^a-z]", " ", ElementTree.tostring(picture, encoding="unicode")).split()


def test_ids_are_unique(variant: tuple[Results, str, _Reader]) -> None:
    ids = [a["id"] for _, a in variant[2].tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_every_number_can_be_traced(variant: tuple[Results, str, _Reader]) -> None:
    """Every arm is there, and every key that an arm names is a row of the steps' table."""
    results, _, read = variant
    text = "".join(read.text)
    ids = {a.get("id") for _, a in read.tags}
    links = {a["href"] for tag, a in read.tags if tag == "a" and a.get("href")}
    for arm in results.arms:
        assert arm.name.replace("\u202e", "\ufffd").replace("\u202c", "\ufffd").replace("\x00", "\ufffd") in text
        for key in arm.steps:
            assert f"step-{key[:10]}" in ids
            assert f"#step-{key[:10]}" in links
    for step in results.steps:
        assert step.digest[:10] in text
    assert results.study_file.splitlines()[0] in text


def test_what_nobody_knows_is_unknown_not_zero() -> None:
    page = _page("unknown_total")
    row = re.search(r"Total: with the pool.*?</table>", page, re.DOTALL)
    assert row
    assert row[0].count(">unknown<") == 3 * 13
    assert "licence <bdi>unknown</bdi>" in page


def test_the_verdict_comes_first_and_the_arm_handed_back_is_marked() -> None:
    read = _Reader(_page("main"))
    text = " ".join("".join(read.text).split())
    assert text.index("is better than tune-then-merge") < text.index("Leaderboard Test")
    assert "merge_then_tune/ties ★ handed back" in text
    assert "ensemble not a deliverable: 3 models at inference" in text
    assert "joint_total spends more: stands apart" in text


def test_figures_that_no_arm_has_are_no_column() -> None:
    def cleared(**fields: None) -> str:
        arms = [
            a.model_copy(update={"tasks": {t: s.model_copy(update=fields) for t, s in a.tasks.items()}})
            for a in example_results().arms
        ]
        return render_html(example_results().model_copy(update={"arms": arms}))

    assert "Of its own expert</th>" in _page("main") and "Forgetting</th>" not in _page("main")
    assert "Forgetting</th>" in _page("one_target")
    page = cleared(normalised=None)
    assert "Of its own expert" not in page
    (table,) = re.findall(r"Every metric, by arm and task.*?</table>", page, re.DOTALL)
    head, *rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    assert {len(re.findall("<t[hd]", row)) for row in rows} == {head.count("<th")}


def test_the_contrasts_explain_their_columns() -> None:
    text = " ".join("".join(_Reader(_page("main")).text).split())
    assert "P(first better)" not in text
    assert "Detectable: the true difference that a study like this one finds in 4 of 5 cases" in text


def test_the_same_results_give_the_same_bytes() -> None:
    assert render_html(example_results()) == render_html(example_results())


def test_a_study_without_arms_has_a_page_too() -> None:
    empty = example_results().model_copy(update={"arms": [], "steps": [], "contrasts": []})
    page = render_html(empty)
    assert "is better than" in page
    assert "Quality against cost" not in page


def test_write_report_makes_both_files(tmp_path: Path) -> None:
    page, summary = write_report(example_results(), tmp_path / "runs" / "x")
    assert page.read_text(encoding="utf-8") == _page("main")
    assert summary.read_text(encoding="utf-8").startswith("# reviews")
    assert sorted(p.name for p in page.parent.iterdir()) == ["report.html", "report.md"]


def _themes(page: str) -> tuple[dict[str, str], dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    assert len(blocks) == 2
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks)
    return light, dark


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _ratio(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_both_themes_have_every_colour_with_enough_contrast() -> None:
    light, dark = _themes(_page("main"))
    assert light.keys() == dark.keys()
    for theme in (light, dark):
        for ground in ("bg", "panel", "accent-soft"):
            for ink in ("ink", "quiet", "accent"):
                assert _ratio(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for ink in ("good", "warn", "bad"):
            assert _ratio(theme[ink], theme["bg"]) >= 4.5, ink
        for mark in ("order", "alternative", "control", "train", "valid", "init", "tune", "search", "merge", "predict"):
            assert _ratio(theme[mark], theme["bg"]) >= 3, mark
            assert _ratio(theme[mark], theme["accent-soft"]) >= 3, mark
        for i in range(7):
            assert _ratio(theme[f"h{i}"], theme[f"ht{i}"]) >= 4.5, i


def test_every_colour_variable_in_use_is_defined() -> None:
    page = _page("main")
    assert set(re.findall(r"var\(--([\w-]+)\)", page)) <= _themes(page)[0].keys()


def test_keys_and_commands_in_sentences_are_code() -> None:
    results = example_results()
    said = "see `learning_rates` and <b>`x<y`"
    verdict = results.verdict.model_copy(update={"details": [said]})
    page = render_html(results.model_copy(update={"verdict": verdict}))
    assert "see <code>learning_rates</code> and &lt;b&gt;<code>x&lt;y</code>" in page
