"""The page of a comparison: whole by itself, true to the numbers, and safe whatever the rows say."""

from html.parser import HTMLParser

import numpy as np

from kedge.analysis.comparison import compare_summaries
from kedge.analysis.measure import Context
from kedge.web.report import comparison_page
from tests.analysis.rows import classified, edges_of, featured, summarised

GENERATOR = np.random.default_rng(2)
VOID = {"meta", "br", "rect", "line", "circle", "path"}


class Page(HTMLParser):
    """The tags, the texts and whether every tag is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def page_of(before, after, **texts) -> str:
    edges = edges_of(before)
    reference, current = summarised(before, edges), summarised(after, edges)
    found = compare_summaries(reference, current, Context(None, reference, edges))
    return comparison_page(found, texts.get("a", "a.csv"), texts.get("b", "b.csv"), made=0)


def test_the_page_is_whole_and_fetches_nothing():
    x = GENERATOR.normal(size=500)
    page = Page(page_of(featured({"x": x}, {"s": ["u"] * 500}), featured({"x": x + 3}, {"s": ["v"] * 500})))
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not [1 for _, attrs in page.tags if {"src", "href"} & attrs.keys()]
    assert sum(tag == "svg" and "chart" in (attrs.get("class") or "") for tag, attrs in page.tags) == 2
    text = " ".join(" ".join(page.texts).split())
    assert "2 of 2 features drifted" in text
    assert "exceeds the tolerance 0.05" in text


def test_names_are_text_and_never_markup():
    name = '<script>alert("x")</script>'
    rows = featured({}, {name: [name] * 50})
    html = page_of(rows, rows, a=name, b='"><b>')
    assert "<script>" not in html
    assert Page(html).open == []


def test_every_picture_has_a_name():
    x = GENERATOR.normal(size=100)
    page = Page(page_of(featured({"x": x}, {}), featured({"x": x}, {})))
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")


def test_a_page_without_features_or_with_one_row_is_a_page():
    one = featured({"x": [1.0]}, {})
    for before, after in ((one, one), (classified(["a"], ["a"]), classified(["b"], [None]))):
        assert Page(page_of(before, after)).open == []


def test_long_names_of_categories_keep_both_their_ends():
    names = [f"A category that somebody typed into a form, number {i}" for i in range(3)]
    page = Page(page_of(featured({}, {"s": names * 200}), featured({}, {"s": names * 200})))
    assert [text for text in page.texts if "…" in text] == [f"A catego…number {i}" for i in range(3)]
    assert set(names) <= set(page.texts)  # whole in the title that a pointer shows


def test_both_reliability_curves_are_drawn_and_written():
    truth = GENERATOR.random(4_000)
    label = ["yes" if GENERATOR.random() < p else "no" for p in truth]
    before = classified(["yes"] * 4_000, label, confidence=truth.tolist())
    after = classified(["yes"] * 4_000, label, confidence=(truth**2).tolist())
    found = compare_summaries(summarised(before), summarised(after), Context(None, summarised(before), None))
    page = Page(comparison_page(found, "a.csv", "b.csv", made=0))
    curves = [attrs["d"] for tag, attrs in page.tags if tag == "path" and "curve" in (attrs["class"] or "")]
    assert [curve.count("L") for curve in curves] == [9, 9]
    rows = [text for text in page.texts if " to 0." in text or " to 1." in text]
    assert "0.4 to 0.5" in rows
    assert page.open == []


def test_no_curve_is_drawn_without_labels():
    rows = classified(["yes"] * 100, [None] * 100)
    found = compare_summaries(summarised(rows), summarised(rows), Context(None, summarised(rows), None))
    assert found.calibration is None
    assert "Calibration" not in comparison_page(found, "a.csv", "b.csv", made=0)


def test_where_no_feature_has_enough_rows_the_page_says_so():
    few = featured({"x": [1.0, 2.0]}, {})
    assert "No feature could be judged, of 1" in page_of(few, few)
