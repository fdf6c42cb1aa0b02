"""Files of predictions and labels: which column is what, what cells mean, and what costs no more than its
row."""

import datetime as dt
import gzip
import json
import math
from decimal import Decimal
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.files import Batch, ColumnMap, read_labels, read_predictions
from ingest.rejection import Rejection
from kedge.errors import BadInput
from kedge.records import Label, Prediction
from kedge.windows import DAY, HOUR
from tests.ingest.conftest import NOW

AT = "2026-11-18T10:00:00Z"
AT_MS = 1_794_996_000_000
FLAGS = ColumnMap(
    timestamp="at",
    id="order",
    cls="pred",
    probabilities={"p_late": "late"},
    label="truth",
    segments=("origin",),
)


def load(path: Path | str, **arguments: Any) -> Batch[Prediction]:
    """All rows and rejections of a file."""
    arguments = {"model": "m", "now": NOW, **arguments}
    batches = list(read_predictions(path, **arguments))
    return Batch([r for b in batches for r in b.rows], [r for b in batches for r in b.rejections])


def load_labels(path: Path | str, **arguments: Any) -> Batch[Label]:
    batches = list(read_labels(path, now=NOW, **arguments))
    return Batch([r for b in batches for r in b.rows], [r for b in batches for r in b.rejections])


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


ROWS = [
    {
        "at": AT,
        "order": "a",
        "pred": "late",
        "p_late": 0.75,
        "truth": "ok",
        "origin": "JFK",
        "delay": 3.5,
        "carrier": "AA",
    },
    {
        "at": AT,
        "order": "b",
        "pred": "ok",
        "p_late": 0.25,
        "truth": None,
        "origin": "EWR",
        "delay": None,
        "carrier": "UA",
    },
]


@pytest.fixture(params=["csv", "tsv", "csv.gz", "parquet", "jsonl", "jsonl.gz"])
def rows_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same two rows in every format."""
    path = tmp_path / f"rows.{request.param}"
    kind, _, packing = request.param.partition(".")
    separator = "\t" if kind == "tsv" else ","
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in ROWS)
    else:
        lines = [ROWS[0].keys(), *(("" if v is None else v for v in row.values()) for row in ROWS)]
        text = "".join(separator.join(map(str, line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if packing else text.encode())
    return path


class TestEveryFormat:
    def test_gives_the_same_rows(self, rows_file: Path) -> None:
        loaded = load(rows_file, version="7", columns=FLAGS)
        assert loaded.rejections == []
        first, second = loaded.rows
        assert first == Prediction(
            id="a",
            timestamp=AT_MS,
            ingested=NOW,
            model="m",
            version="7",
            cls="late",
            probability=0.75,
            probabilities={"late": 0.75},
            entropy=second.entropy,
            num={"delay": 3.5},
            cat={"carrier": "AA"},
            segment={"origin": "JFK"},
            label=Label(id="a", timestamp=AT_MS, ingested=NOW, cls="ok"),
        )
        assert (second.probability, second.probabilities) == (0.75, {"late": 0.25, "ok": 0.75})
        assert (second.num, second.cat, second.label) == ({}, {"carrier": "UA"}, None)

    def test_gives_the_same_ids_again_where_there_are_none(self, rows_file: Path) -> None:
        columns = ColumnMap(timestamp="at", cls="pred", label="truth", features=("delay", "carrier"))
        first, again = (load(rows_file, columns=columns, now=now).rows for now in (NOW, NOW + DAY))
        assert [row.id for row in first] == [row.id for row in again]
        assert len({row.id for row in first}) == 2
        assert int(first[0].id[:12], 16) == AT_MS

    def test_names_the_flag_for_a_time_that_is_missing(self, rows_file: Path) -> None:
        with pytest.raises(BadInput, match="--timestamp"):
            load(rows_file)
        assert [row.timestamp for row in load(rows_file, default_time=AT_MS).rows] == [AT_MS, AT_MS]

    def test_names_the_flag_of_a_column_that_is_not_there(self, rows_file: Path) -> None:
        with pytest.raises(
            BadInput, match=r'no column "prde", which --class names \(did you mean "pred"\?\)'
        ):
            load(rows_file, columns=ColumnMap(timestamp="at", cls="prde"))

    def test_restricts_features_to_those_named(self, rows_file: Path) -> None:
        columns = ColumnMap(timestamp="at", cls="pred", features=("carrier",))
        row = load(rows_file, columns=columns).rows[0]
        assert (row.num, row.cat) == ({}, {"carrier": "AA"})

    def test_gives_labels(self, rows_file: Path) -> None:
        loaded = load_labels(rows_file, id="order", label="truth", timestamp="at")
        assert loaded.rows == [Label(id="a", timestamp=AT_MS, ingested=NOW, cls="ok")]
        assert [(r.index, r.field) for r in loaded.rejections] == [(1, "label")]

    def test_of_labels_needs_an_id(self, rows_file: Path) -> None:
        with pytest.raises(BadInput, match="--id"):
            load_labels(rows_file, label="truth")


class TestColumns:
    def test_with_names_of_kedges_own_need_no_flag(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.csv",
            "id,timestamp,class,probabilities.late,prediction.probabilities.ok,version,latency_ms,error,trace_id,"
            "segment.region,features.age,features.num.x,age2,label,Unnamed: 0\n"
            f"a,{AT},late,0.75,0.25,1.0,12.5,,t,eu,41,1,42,ok,0\n",
        )
        (row,) = load(path).rows
        assert (row.id, row.cls, row.version, row.latency_ms, row.trace) == ("a", "late", "1.0", 12.5, "t")
        assert (row.probabilities, row.segment) == ({"late": 0.75, "ok": 0.25}, {"region": "eu"})
        assert row.num == {"age": 41.0, "x": 1.0, "age2": 42.0}
        assert not row.failed

    def test_a_flag_frees_the_own_name(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"timestamp,class,pred\n{AT},first,late\n")
        (row,) = load(path, columns=ColumnMap(cls="pred")).rows
        assert (row.cls, row.cat) == ("late", {"class": "first"})

    def test_that_give_one_field_twice_are_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"timestamp,@timestamp\n{AT},{AT}\n")
        with pytest.raises(BadInput, match='"timestamp" and "@timestamp" both give timestamp'):
            load(path)
        path = write(tmp_path / "b.csv", f"timestamp,x,x\n{AT},1,2\n")
        with pytest.raises(BadInput, match='"x" occurs twice'):
            load(path)

    def test_the_model_named_by_the_caller_wins_the_version_is_a_default(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"timestamp,model,version\n{AT},other,2\n{AT},other,\n")
        rows = load(path, version="1").rows
        assert [(row.model, row.version) for row in rows] == [("m", "2"), ("m", "1")]
        assert load(path, model=None).rows[0].model == "other"


class TestCells:
    def test_a_class_is_one_class_however_it_is_written(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"timestamp,class,label\n{AT},1,1.0\n{AT},1.0,1\n{AT},True,true\n")
        assert [(row.cls, row.label and row.label.cls) for row in load(path).rows] == [
            *(("1", "1"), ("1", "1"), ("true", "true"))
        ]

    def test_what_is_missing_depends_on_the_column(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.csv",
            f"timestamp,n,c,b,e\n{AT},1,NA,True,\n{AT},NA,,,\n{AT}, 2.5 ,DE,false,\n"
            f"{AT},NaN,x,TRUE,\n{AT},1e39,x,,\n",
        )
        rows = load(path).rows
        assert [row.num for row in rows] == [{"n": 1.0}, {}, {"n": 2.5}, {}, {}]
        assert [row.cat for row in rows] == [
            {"c": "NA", "b": "true"},
            {},
            {"c": "DE", "b": "false"},
            {"c": "x", "b": "true"},
            {"c": "x"},
        ]

    def test_a_column_is_of_one_kind_however_late_it_shows(self, tmp_path: Path) -> None:
        lines = [f"{AT},{i},{i}" for i in range(25_000)]
        path = write(tmp_path / "a.csv", "\n".join(["timestamp,x,y", *lines, f"{AT},unknown,7"]) + "\n")
        rows = load(path).rows
        assert len(rows) == 25_001
        assert rows[0].cat == {"x": "0"}
        assert rows[-1].cat == {"x": "unknown"}
        assert rows[-1].num == {"y": 7.0}

    def test_text_among_numbers_costs_its_row(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"timestamp,class,probability\n{AT},a,0.5\n{AT},a,high\n{AT},a,\n")
        loaded = load(path)
        assert [row.probability for row in loaded.rows] == [0.5, None]
        assert loaded.rejections == [Rejection(1, "probability", "expected a number, got text")]

    def test_times_are_read_in_any_usual_form(self, tmp_path: Path) -> None:
        forms = [
            AT,
            "2026-11-18 10:00:00",
            "2026-11-18T11:00+01:00",
            str(AT_MS),
            str(AT_MS // 1000),
            "soon",
            "",
        ]
        path = write(tmp_path / "a.csv", "\n".join(["timestamp,x", *(f"{form},1" for form in forms)]) + "\n")
        loaded = load(path)
        assert [row.timestamp for row in loaded.rows] == [AT_MS] * 5
        assert [(r.index, r.field) for r in loaded.rejections] == [(5, "timestamp"), (6, "timestamp")]

    def test_labels_of_a_regression_are_numbers(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"timestamp,value,label\n{AT},3.5,4\n")
        (row,) = load(path).rows
        assert row.label is not None
        assert (row.label.cls, row.label.value) == (None, 4.0)
        path = write(tmp_path / "b.csv", "id,label\na,007\nb,late\n")
        assert [(label.cls, label.value) for label in load_labels(path).rows] == [
            ("007", 7.0),
            ("late", None),
        ]

    def test_quoted_cells_may_hold_anything(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f'timestamp,text\n{AT},"two\nlines, ""quoted"""\n')
        assert load(path).rows[0].cat == {"text": 'two\nlines, "quoted"'}

    def test_semicolons_separate_too(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", f"\ufefftimestamp;x\n{AT};2\n")
        assert load(path).rows[0].num == {"x": 2.0}


class TestParquet:
    def test_types_become_what_json_would_carry(self, tmp_path: Path) -> None:
        noon = dt.datetime(2026, 11, 18, 10, tzinfo=dt.UTC)
        table = pa.table(
            {
                "timestamp": pa.array([noon.replace(tzinfo=None)] * 2, pa.timestamp("us")),
                "id": pa.array([1.0, 2.0]),
                "class": pa.array([1.0, math.nan]),
                "f32": pa.array([0.5, math.nan], pa.float32()),
                "big": pa.array([2**63, None], pa.uint64()),
                "flag": pa.array([True, None]),
                "money": pa.array([Decimal("1.25"), None], pa.decimal128(8, 2)),
                "kind": pa.array(["a", None]).dictionary_encode(),
                "list": pa.array([[1, 2], None]),
                "day": pa.array([dt.date(2026, 1, 2), None]),
                "__index_level_0__": pa.array([0, 1]),
            }
        )
        pq.write_table(table, tmp_path / "a.parquet")
        first, second = load(tmp_path / "a.parquet").rows
        assert (first.id, first.timestamp, first.cls) == ("1", AT_MS, "1")
        assert first.num == {"f32": 0.5, "big": 2.0**63, "money": 1.25}
        assert first.cat == {"flag": "true", "kind": "a", "day": "2026-01-02"}
        assert first.invalid == ("list",)
        assert (second.cls, second.num, second.cat, second.invalid) == (None, {}, {}, ())

    def test_zones_and_dates_are_instants(self, tmp_path: Path) -> None:
        noon = dt.datetime(2026, 11, 18, 10, tzinfo=dt.UTC)
        for values in (
            pa.array([noon], pa.timestamp("ns", "Europe/Berlin")),
            pa.array([AT_MS]),
            pa.array([AT]),
        ):
            pq.write_table(pa.table({"timestamp": values}), tmp_path / "a.parquet")
            assert load(tmp_path / "a.parquet").rows[0].timestamp == AT_MS
        pq.write_table(pa.table({"timestamp": pa.array([noon.date()])}), tmp_path / "a.parquet")
        assert load(tmp_path / "a.parquet").rows[0].timestamp == AT_MS - 10 * HOUR

    def test_nested_columns_are_kedges_maps(self, tmp_path: Path) -> None:
        rows = [{"timestamp": AT, "features": {"x": 1, "c": "a"}, "probabilities": {"a": 0.5, "b": 0.5}}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        (row,) = load(tmp_path / "a.parquet").rows
        assert (row.num, row.cat, row.cls) == ({"x": 1.0}, {"c": "a"}, "a")


class TestLines:
    def test_are_wire_rows_with_features_beside(self, tmp_path: Path) -> None:
        line = {
            "id": "a",
            "@timestamp": AT,
            "prediction": {"class": 1},
            "features": {"x": 1},
            "y": 2,
            "z": [1],
        }
        (row,) = load(write(tmp_path / "a.jsonl", json.dumps(line))).rows
        assert (row.id, row.cls, row.num, row.invalid) == ("a", "1", {"x": 1.0, "y": 2.0}, ("z",))

    def test_that_cannot_be_read_are_told_with_their_number(self, tmp_path: Path) -> None:
        good = json.dumps({"timestamp": AT, "x": math.nan})
        path = tmp_path / "a.jsonl"
        path.write_bytes(f'{good}\n\n{{"timestamp" 1}}\n'.encode() + b'"\xff"\n' + f"7\n{good}\n".encode())
        loaded = load(path)
        assert len(loaded.rows) == 2
        assert [rejection.index for rejection in loaded.rejections] == [1, 2, 3]
        assert f"({path}:3:14)" in loaded.rejections[0].reason

    def test_come_from_standard_input_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = BytesIO(json.dumps({"timestamp": AT, "id": "a"}).encode())
        monkeypatch.setattr("sys.stdin", TextIOWrapper(data))
        assert [row.id for row in load("-").rows] == ["a"]

    def test_of_one_list_are_refused_with_the_way_out(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"a\.json:1: is one list: write one object a line"):
            load(write(tmp_path / "a.json", "[{}]"))


class TestBadFiles:
    def test_ragged_rows_and_bad_text_cost_only_themselves(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(
            f"timestamp,id,x\n{AT},a,1\n{AT},b\n{AT},\xff,3\n{AT},d,4\n{AT},e,5,6\n".encode("latin-1")
        )
        loaded = load(path)
        assert [row.id for row in loaded.rows] == ["a", "d"]
        assert loaded.rejections == [
            Rejection(1, "", "has 2 cells; the header has 3"),
            Rejection(2, "id", "expected a whole number or text, got text that is not UTF-8"),
            Rejection(4, "", "has 4 cells; the header has 3"),
        ]

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("a.csv", b"", "is empty"),
            ("a.csv", b"\xff\xfea\x00,b", "is not UTF-8"),
            ("a.csv.gz", b"timestamp,x\n", "cannot be read"),
            ("a.jsonl.gz", b"{}", "cannot be read"),
            ("a.parquet", b"PAR1 no", "not a Parquet file"),
            ("a.xlsx", b"PK", "what kind of file"),
        ],
    )
    def test_are_named_with_what_is_wrong(
        self, tmp_path: Path, name: str, content: bytes, words: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=words) as caught:
            load(tmp_path / name)
        assert name in caught.value.place

    def test_that_are_not_there_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no such file"):
            load(tmp_path / "none.csv")

    def test_that_are_only_a_header_have_no_rows(self, tmp_path: Path) -> None:
        assert load(write(tmp_path / "a.csv", "timestamp,x\n")).rows == []

    def test_parquet_cut_short_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(BadInput, match="not a Parquet file"):
            load(path)


def test_probability_flags_are_column_and_class() -> None:
    assert ColumnMap.parse_probabilities(["p:late", "a:b:c"]) == {"p": "late", "a:b": "c"}
    for text in ("p", "p:", ":late"):
        with pytest.raises(BadInput, match="COLUMN:CLASS"):
            ColumnMap.parse_probabilities([text])
