"""The page in a real browser: no message in the console, no request, no horizontal overflow, both themes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser, find_browser
from example import VARIANTS

from tunemerge.report import write_report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium found: install `chromium`, or set TUNEMERGE_CHROMIUM to one")
    with browser(program) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: write_report(make(), folder / name)[0] for name, make in VARIANTS.items()}


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_page_opens_quietly_and_fits(chromium: Browser, pages: dict[str, Path], variant: str, width: int) -> None:
    chromium.messages.clear()
    chromium.requests.clear()
    chromium.open(pages[variant], width)
    chromium.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.messages == []
    assert [r for r in chromium.requests if not r.startswith(("data:", pages[variant].as_uri()))] == []


def test_style_and_pictures_are_applied(chromium: Browser, pages: dict[str, Path]) -> None:
    """The policy's hash fits the style sheet, or the browser would have refused it."""
    chromium.open(pages["main"], 1280)
    light = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert chromium.value("getComputedStyle(document.querySelector('.wide')).display") == "block"
    chromium.open(pages["main"], 390, dark=True)
    dark = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 22, 27)")
    assert chromium.value("getComputedStyle(document.querySelector('.wide')).display") == "none"


@pytest.mark.parametrize("width", [390, 1280])
def test_no_text_of_a_picture_is_clipped(chromium: Browser, pages: dict[str, Path], width: int) -> None:
    chromium.open(pages["main"], width)
    clipped = chromium.value(
        """[...document.querySelectorAll('svg:not(.bar) text')].filter(t => {
             const box = t.getBoundingClientRect(), all = t.ownerSVGElement.getBoundingClientRect();
             return box.width && (box.left < all.left - 1 || box.right > all.right + 1);
           }).map(t => t.textContent)"""
    )
    assert clipped == []


def test_labels_of_boxes_stay_in_their_boxes(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["main"], 1280)
    outside = chromium.value(
        """[...document.querySelectorAll('svg.dag g')].flatMap(g => {
             const box = g.querySelector('rect.box').getBoundingClientRect();
             return [...g.querySelectorAll('text')].filter(t => t.getBoundingClientRect().right > box.right)
               .map(t => t.textContent);
           })"""
    )
    assert outside == []


def test_labels_beside_points_do_not_collide(chromium: Browser, pages: dict[str, Path]) -> None:
    for width in (390, 1280):
        chromium.open(pages["main"], width)
        pairs = chromium.value(
            """(() => {
                 const texts = [...document.querySelectorAll('svg text.halo')];
                 const shown = texts.filter(t => t.getBoundingClientRect().width);
                 const boxes = shown.map(t => [t.getBoundingClientRect(), t.textContent]);
                 const over = (a0, a1, b0, b1, slack) => a0 < b1 - slack && b0 < a1 - slack;
                 const hit = (a, b) =>
                   over(a.left, a.right, b.left, b.right, 1) && over(a.top, a.bottom, b.top, b.bottom, 5);
                 return boxes.flatMap(([a, s], i) =>
                   boxes.slice(i + 1).filter(([b]) => hit(a, b)).map(([_, t]) => [s, t]));
               })()"""
        )
        assert pairs == []
