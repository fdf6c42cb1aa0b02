"""YAML is read as ruamel's round-trip loader reads it, values and places, only faster."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from kedge.yamlfile import Items, Map, YamlError, parse_yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    [*(ROOT / "rules").glob("*.yml"), *(ROOT / "tests/alerting/examples").glob("*.yml"), ROOT / "kedge.yml"]
)
TEXTS = [
    "",
    "# only a comment\n",
    "a: 1\nb: [x, 'y: z', \"q\\n\", 1.50, 1e3, ~, null, true, yes, on, .5, 012, 0o12, -3]\n",
    "c: {d: e f g, h: i?j, k: a:b, l: , m, n: #x\n o}\n# c\np: |\n  text\n  more\nq: >\n  folded\n  text\n",
    "n: plain that\n  goes on # c\no: http://x.y/z#frag\ns: a # b\nt: a #b\nu: a#b\nv: - \nw: a  b\n",
    "x: one\n\n  two\ny: three\n#z\nz: four\n---\n",
    "- a\n- - b\n  - c\n-\n- d: e\n  f: g h\n- 2026-01-05\n- 2026-01-05T00:00:00Z\n",
    "'q': 1\n1: one\n1.5: x\nfalse: y\n? r\n: s\n",
    "{a: [1, 2, {b: c}], d: 'e', \"f\": g}\n",
    "word that\ngoes on\n",
    "a: b\r\nc: d e\r\nf: [g h, i]\r\n",
    "a: ü ñ\nb: [ü, ñ]\n",
]


def round_trip(text: str) -> Any:
    reader = YAML(typ="rt")
    reader.allow_duplicate_keys = False
    return reader.load(StringIO(text))


def assert_same(theirs: Any, ours: Any) -> None:
    if isinstance(theirs, CommentedMap):
        assert isinstance(ours, Map)
        assert list(theirs) == list(ours)
        for key in theirs:
            line, column = theirs.lc.key(key)
            assert ours.places[key] == (line + 1, column + 1)
            assert_same(theirs[key], ours[key])
    elif isinstance(theirs, CommentedSeq):
        assert isinstance(ours, Items)
        assert len(theirs) == len(ours)
        for i, item in enumerate(theirs):
            line, column = theirs.lc.item(i)
            assert ours.places[i] == (line + 1, column + 1)
            assert_same(item, ours[i])
    else:
        assert ours == theirs
        assert isinstance(theirs, type(ours))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_files_are_read_as_by_the_round_trip_loader(file: Path) -> None:
    text = file.read_text("utf-8")
    assert_same(round_trip(text), parse_yaml(text, "f").data)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read_as_by_the_round_trip_loader(text: str) -> None:
    try:
        expected = round_trip(text)
    except Exception:  # what it refuses is refused
        with pytest.raises(YamlError):
            parse_yaml(text, "f")
        return
    assert_same(expected, parse_yaml(text, "f").data)


def test_an_alias_stands_where_it_is_written_and_merged_keys_where_they_are() -> None:
    file = parse_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: [*x]\n", "f")
    assert file.data == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": [{"b": 1, "c": 2}]}
    assert [file.position(loc) for loc in (("d", "b"), ("d", "c"), ("e", 0))] == [(1, 8), (2, 13), (3, 5)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", "f:1:5: mapping values are not allowed here"),
        ("a: [1", "f:1:6: expected ',' or ']', but got '<stream end>'"),
        ("a: {b: 1, b: 2}", 'f:1:11: found duplicate key "b"'),
        ("a: @x", "f:1:4: found character '@' that cannot start any token"),
        ("a:\n\t- b", "f:2:1: found character '\\t' that cannot start any token"),
        ("---\na: 1\n---\nb: 2\n", "f:3:1: expected a single document, but found another"),
        ("a: *nope", "f:1:4: found undefined alias 'nope'"),
        ("a: &x [*x]", "f:1:8: alias 'x' is inside of what it stands for"),
        ("a: !foo bar", "f:1:4: the tag !foo means nothing here"),
        ("a: !foo [1]", "f:1:4: the tag !foo means nothing here"),
        ("[a]: 1", "f:1:1: a key must be text or a number"),
        ("a: {<<: 1}", "f:1:5: << takes in a map, or a list of maps"),
    ],
)
def test_what_is_not_right_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text, "f")
    assert str(caught.value) == said
