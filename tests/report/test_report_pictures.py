"""What the pictures say, checked on the geometry behind them."""

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from example import VARIANTS, example_results

from tunemerge.report import bars, curves, view
from tunemerge.report.graph import drawn_seed, graph, nodes
from tunemerge.report.heatmap import heatmap
from tunemerge.report.labels import place
from tunemerge.report.layout import depths, layered
from tunemerge.report.pareto import pareto, pareto_front
from tunemerge.report.svg import el, fence, fit, log_ticks, nice_ticks, raw, text_width
from tunemerge.results import StepResult


def test_elements_escape_their_text_and_attributes() -> None:
    assert el("text", raw("<&>"), cls='a"b', x=1.0) == '<text class="a&quot;b" x="1">&lt;&amp;&gt;</text>'


@pytest.mark.parametrize("width", [30, 80, 200])
def test_fitted_text_is_no_wider_and_keeps_both_ends(width: float) -> None:
    name = "merge_then_tune/" + "x" * 300 + "/ties"
    shown = fit(name, width, 12)
    assert text_width(shown, 12) <= width
    assert "…" in shown
    assert shown == "…" or (shown[0] == "m" and shown[-1] == "s")
    assert fit("short", 200, 12) == "short"


def test_ticks_are_round_and_cover() -> None:
    assert nice_ticks(0.742, 0.872, 6) == [0.725, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875]
    assert nice_ticks(0.5, 0.5)[0] < 0.5 < nice_ticks(0.5, 0.5)[-1]
    assert log_ticks(0.9e12, 2e13) == [1e12, 3e12, 1e13]
    assert len(log_ticks(1e12, 1.6e12)) >= 2


def test_the_front_is_what_nothing_deliverable_beats() -> None:
    results = example_results()
    front = pareto_front(results.arms, True)
    assert [a.name for a in front] == ["expert/yelp", "merge_only/linear", "joint", "merge_then_tune/ties"]
    assert all(a.deliverable for a in front)
    turned = pareto_front(VARIANTS["one_target"]().arms, False)
    scores = [a.test.value for a in turned]
    assert scores == sorted(scores, reverse=True)


def test_labels_stay_in_the_frame_and_off_each_other() -> None:
    points = [(400.0, 100.0 + 7 * i) for i in range(9)] + [(395.0, 60.0), (30.0, 30.0)]
    texts = [f"merge_then_tune/method{i}" for i in range(11)]
    widths = [text_width(t, 12) for t in texts]
    placed = place(points, texts, widths, [7.0] * 11, (0, 0, 800, 400), 12)
    for label in placed:
        assert label.box[0] >= 0 and label.box[1] >= 0 and label.box[2] <= 800 and label.box[3] <= 400
    for a, b in combinations(placed, 2):
        apart = a.box[2] <= b.box[0] or b.box[2] <= a.box[0] or a.box[3] <= b.box[1] or b.box[3] <= a.box[1]
        assert apart, (a, b)


def test_the_front_runs_through_no_label() -> None:
    """Of 13 arms in 1000 pixels; the line may touch a label's outermost pixels."""
    results = view.ordered(example_results())
    picture = ElementTree.fromstring(pareto(results, "p"))
    (front,) = (e for e in picture.iter("path") if e.get("class") == "front")
    corners = [tuple(map(float, p.split())) for p in front.get("d", "")[1:].split("L")]
    labels = [e for e in picture.iter("text") if "halo" in e.get("class", "")]
    assert len(labels) == len(results.arms)
    for label in labels:
        x, y = float(label.get("x", "")), float(label.get("y", "")) - 4.2
        wide = text_width(label.text or "", 12, bold="strong" in label.get("class", ""))
        for (x0, y0), (x1, y1) in pairwise(corners):
            across = min(x0, x1) < x + wide - 1 and max(x0, x1) > x + 1
            assert not (across and min(y0, y1) < y + 6 and max(y0, y1) > y - 6), label.text


def test_a_box_says_what_is_done_and_with_what() -> None:
    label = "amazon: base, 18 steps on amazon source"
    steps = [s.model_copy(update={"label": label}) if s.op == "tune" else s for s in example_results().steps]
    picture = graph(example_results().model_copy(update={"steps": steps}), "g")
    assert picture is not None
    words = re.findall(r">([^<]+)</text>", picture)
    assert "amazon" in words and "base, 18 steps on amazon source" in words
    assert "6 predictions" in words and "amazon, imdb, yelp" in words


def test_narrow_pareto_numbers_its_points_and_names_them_below() -> None:
    results = view.ordered(example_results())
    words = re.findall(r">([^<]+)</text>", pareto(results, "p", narrow=True))
    for i, arm in enumerate(results.arms, 1):
        assert str(i) in words
        assert any(w.startswith(f"{i}  {arm.name}") for w in words)


def test_a_far_control_does_not_press_the_bars_together() -> None:
    results = example_results()
    scale = bars.arm_scale(results)
    base = next(a for a in results.arms if a.name == "base_probe")
    assert base.test.value < scale.ticks[0]
    picture = bars.arm_bar(base, scale, results, "b")
    assert "off the scale" in picture
    assert "74.3%" in picture
    for arm in results.arms:
        if arm.role != "control":
            assert scale.ticks[0] <= arm.test.low and arm.test.high <= scale.ticks[-1]


def test_an_interval_beyond_the_scale_ends_in_an_arrow() -> None:
    results = example_results()
    wide = results.arms[5].model_copy(
        update={"test": results.arms[5].test.model_copy(update={"low": 0.0, "high": 1.0})}
    )
    results = results.model_copy(update={"arms": [*results.arms[:5], wide, *results.arms[6:]]})
    scale = bars.arm_scale(results)
    assert 0.6 < scale.ticks[0] < 0.8 and 0.88 < scale.ticks[-1] < 1
    picture = bars.arm_bar(wide, scale, results, "b")
    assert "◂" in picture and "▸" in picture and "[0.0, 100.0]" in picture
    assert "◂" not in bars.arm_bar(results.arms[0], scale, results, "b")


def test_the_fence_leaves_out_what_is_far_out_only() -> None:
    assert fence([0.74, 0.84, 0.85, 0.855, 0.86, 0.865, 0.87]) == (0.84, 0.87)
    assert fence([0.82, 0.84, 0.85, 0.855, 0.86, 0.865, 0.87]) == (0.82, 0.87)
    assert fence([0.1, 0.9]) == (0.1, 0.9)


def test_the_forest_plot_puts_zero_and_the_margin_where_they_belong() -> None:
    results = example_results()
    scale = bars.contrast_scale(results)
    low, zero, high = (float(scale.at(v)[:-1]) for v in (-results.margin, 0.0, results.margin))
    assert zero - low == pytest.approx(high - zero, abs=0.02)
    picture = ElementTree.fromstring(bars.contrast_bar(results.contrasts[0], scale, results, "c"))
    band = next(e for e in picture.iter("rect") if e.get("class") == "margin")
    assert float(band.get("x", "")[:-1]) == pytest.approx(low)
    assert float(band.get("width", "")[:-1]) == pytest.approx(high - low, abs=0.02)


def test_the_heat_map_has_every_score_and_marks_the_best() -> None:
    for narrow in (False, True):
        words = re.findall(r">([^<]+)</text>", heatmap(example_results(), "h", narrow=narrow))
        assert sum(w.endswith("%") for w in words) == 13 * 3
        assert words.count("▲") == 3
    assert re.findall(r'class="h(\d)"', heatmap(VARIANTS["one_arm"](), "h")) == ["3"]


def test_low_log_loss_is_shaded_as_good() -> None:
    results = VARIANTS["one_target"]()
    picture = heatmap(results, "h")
    cells = re.findall(r'class="h(\d)"/><text[^>]*>([\d.]+)<', picture)
    best, worst = min(cells, key=lambda c: float(c[1])), max(cells, key=lambda c: float(c[1]))
    assert (best[0], worst[0]) == ("6", "0")


def _step(**changes: object) -> StepResult:
    step = next(s for s in example_results().steps if s.op == "tune")
    return step.model_copy(update=changes)


def test_panels_gather_seeds_and_count_where_the_gap_opens() -> None:
    found = {(p.label, p.arms): p for p in curves.panels(example_results())}
    assert all(len(p.steps) == 5 for p in found.values())
    opened = {p.label for p in found.values() if p.opened}
    assert opened == {
        "tune in turn on amazon",
        *(f"tune {t} on the whole budget, each" for t in ("amazon", "imdb", "yelp")),
    }
    for panel in found.values():
        assert panel.gap == pytest.approx(0.29 if panel.label in opened else 0.07, abs=0.05)


def test_seeds_in_labels_do_not_split_panels() -> None:
    steps = [_step(key=f"k{s}", label=f"tune yelp (seed {s})", seed=s) for s in range(3)]
    results = example_results().model_copy(update={"steps": steps})
    (panel,) = curves.panels(results)
    assert (panel.label, len(panel.steps)) == ("tune yelp", 3)


def test_a_curve_without_numbers_draws_without_numbers() -> None:
    points = [p.model_copy(update={"train_loss": None, "validation_loss": None}) for p in _step().curve]
    results = example_results().model_copy(update={"steps": [_step(curve=points, chosen_step=None)]})
    (panel,) = curves.panels(results)
    picture = curves.draw(panel, "c", curves.loss_ticks([panel]))
    assert (panel.gap, panel.opened) == (None, 0)
    assert "The gap was not recorded" in picture
    ElementTree.fromstring(picture)


def test_a_loss_that_is_no_number_is_taken_for_not_recorded() -> None:
    first, *others = _step().curve
    curve = [first, *(p.model_copy(update={"train_loss": float("nan")}) for p in others)]
    curve[-1] = curve[-1].model_copy(update={"validation_loss": float("inf")})
    (panel,) = curves.panels(example_results().model_copy(update={"steps": [_step(curve=curve)]}))
    assert panel.gap is None
    picture = curves.draw(panel, "c", curves.loss_ticks([panel]))
    assert "nan" not in picture and "inf" not in picture


def test_depth_is_the_longest_way_from_a_source() -> None:
    assert depths({"d": ["b", "c"], "c": ["b"], "b": ["a", "gone"], "a": []}) == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_boxes_do_not_overlap_and_edges_go_right() -> None:
    results = example_results()
    found = nodes(results, 2)
    plan = layered({k: n.parents for k, n in found.items()}, 66, 14)
    for key, node in found.items():
        for parent in node.parents:
            assert plan.column[parent] < plan.column[key]
            assert len(plan.bends[parent, key]) == plan.column[key] - plan.column[parent] - 1
    for a, b in combinations(found, 2):
        if plan.column[a] == plan.column[b]:
            assert abs(plan.y[a] - plan.y[b]) >= 66 + 14 - 1e-6
    assert min(plan.y.values()) >= -1e-6
    assert max(plan.y.values()) + 66 <= plan.height + 1e-6


def test_the_graph_is_that_of_the_seed_handed_back_with_all_its_cost() -> None:
    results = example_results()
    assert drawn_seed(results) == 2
    found = nodes(results, 2)
    keys = [k for n in found.values() for k in n.keys]
    assert sorted(keys) == sorted(s.key for s in results.steps if s.seed == 2)
    shared = {n.label for n in found.values() if len(n.arms) == 13}
    assert shared == {"base with a fresh head"}
    picture = graph(results, "g")
    assert picture is not None
    assert all(k[:10] in picture for k in found)


def test_steps_that_are_the_same_for_every_seed_are_in_every_graph() -> None:
    """A given pool: an untuned arm's steps carry one seed's number, whichever ran last."""
    results = example_results()
    arm = next(a for a in results.arms if a.name == "expert/yelp")
    mine = {s.key for s in results.steps if s.seed == 4 and s.key in arm.steps}
    kept = [s for s in results.steps if s.key in mine or "expert/yelp" not in s.arms or len(s.arms) > 1]
    arms = [a.model_copy(update={"steps": sorted(mine)}) if a is arm else a for a in results.arms]
    found = nodes(results.model_copy(update={"steps": kept, "arms": arms}), 2)
    assert any(n.op == "predict" and n.arms == ("expert/yelp",) for n in found.values())


def test_without_steps_there_is_no_graph() -> None:
    assert graph(example_results().model_copy(update={"steps": []}), "g") is None
