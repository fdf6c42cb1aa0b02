"""What the DuckDB store does behind the Protocols: scans in pieces, filters of ids, a log of documents."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kedge.records import Prediction
from kedge.sketch import draw, numeric_edges
from kedge.store.base import Written
from kedge.store.duckdb import DuckStore, catalog, database, documents, open_duckdb
from kedge.store.duckdb.idfilter import IdFilter
from kedge.store.duckdb.logs import hashes_of
from kedge.windows import DAY, HOUR, Window
from tests.contract.helpers import asking, assert_summarises
from tests.support.rows import START, random_rows


@pytest.fixture
def store() -> Iterator[DuckStore]:
    opened = open_duckdb(":memory:")
    opened.setup()
    yield opened
    opened.close()


def test_a_scan_in_many_pieces_counts_the_same(store: DuckStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB hands out pieces of 2,048 rows at least, so buckets and groups are met in several of them."""
    rows = random_rows(71, 9000, model="m")
    store.append(rows)
    monkeypatch.setattr(database, "BATCH_ROWS", 2048)
    window = Window(START // DAY * DAY, START // DAY * DAY + 2 * DAY)
    assert len(list(store._database.batches("FROM predictions_20261123"))) > 1
    for bucket in (DAY, HOUR):
        request = asking("m", bucket=bucket, window=window, groupings=((), ("segment.region", "version")))
        assert_summarises(store, request, rows)


def test_features_that_come_later_read_as_missing_before(store: DuckStore) -> None:
    def row(i: int, **fields: object) -> Prediction:
        return Prediction(
            id=str(i),
            timestamp=START + i * 1000,
            ingested=START,
            model="m",
            **fields,  # type: ignore[arg-type]
        )

    rows = [
        row(0),
        row(1, num={"age": 20.0}),
        row(2, num={"zero": 0.0}, cat={"země": "日本"}),
        row(3, num={"amount": 1.0, "age": 30.0}, segment={"region": "eu"}, cat={"merchant_type": "pub"}),
        row(4),
    ]
    for each in rows:
        store.append([each])
    assert_summarises(store, asking("m", groupings=((), ("segment.region",))), rows)


def test_models_do_not_share_the_places_of_their_features(store: DuckStore) -> None:
    rows = {
        name: [
            Prediction(id=f"{i}", timestamp=START, ingested=START, model=name, num={feature: float(i)})
            for i in range(20)
        ]
        for name, feature in (("one", "age"), ("two", "amount"))
    }
    store.append([row for pair in zip(*rows.values(), strict=True) for row in pair])
    for name, own in rows.items():
        assert_summarises(store, asking(name), own)


def test_a_row_with_too_many_new_fields_is_refused_alone(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "MAX_FIELDS", 10)
    fitting = Prediction(
        id="a", timestamp=START, ingested=START, model="m", num={f"x{i}": 1.0 for i in range(8)}
    )
    wide = Prediction(
        id="b", timestamp=START, ingested=START, model="m", num={f"y{i}": 1.0 for i in range(8)}
    )
    last = Prediction(id="c", timestamp=START, ingested=START, model="m", num={"x0": 1.0, "z": 2.0})
    results = store.append([fitting, wide, last])
    assert [r.written for r in results] == [Written.CREATED, Written.REJECTED, Written.CREATED]
    assert "different fields" in results[1].reason
    assert store.append([wide])[0].written is Written.REJECTED


def test_a_filter_of_ids_never_misses_one_and_rarely_errs() -> None:
    held, strangers = hashes_of(f"a{i}" for i in range(5000)), hashes_of(f"b{i}" for i in range(20_000))
    ids = IdFilter(5000)
    ids.add(held[:100])
    ids.add(held[100:])
    assert ids.capacity >= 5000
    assert ids.may_hold(held).all()
    assert ids.may_hold(strangers).mean() < 0.005
    assert not IdFilter(0).may_hold(held).any()


def test_ids_hash_the_same_in_duckdb_and_here(store: DuckStore) -> None:
    """A filter is filled by Python as rows come, and by DuckDB after a restart."""
    rows = [
        Prediction(id=id, timestamp=START, ingested=START, model="m") for id in ("", "a", "ü日本", "x" * 300)
    ]
    store.append(rows)
    day = next(iter(store._catalog.days.values()))
    day.ids = None
    assert [r.written for r in store.append(rows)] == [Written.DUPLICATE] * 4
    assert day.ids is not None


def test_the_log_of_documents_is_rewritten_without_what_was_overtaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "REWRITE_ABOVE", 20)
    path = str(tmp_path / "kedge.duckdb")
    store = open_duckdb(path)
    store.setup()
    for n in range(100):
        for name in ("a", "b"):
            standing = store.state.get(name)
            assert store.state.swap(name, {"n": n}, standing.token if standing else None)
    standing = store.state.get("b")
    assert standing is not None
    assert store.state.delete("b", standing.token)
    [(logged,)] = store._database.rows("SELECT count(*) FROM kedge_documents")
    assert logged < 30
    store.close()
    store = open_duckdb(path)
    assert {name: stored.value for name, stored in store.state.find().items()} == {"a": {"n": 99}}
    store.close()


def test_a_batch_sees_its_own_swaps_and_others_see_them_once_they_are_safe(store: DuckStore) -> None:
    seen: list[object] = []

    def read() -> None:
        stored = store.state.get("x")
        seen.append(stored and stored.value)

    with store.batch():
        assert store.state.swap("x", {"n": 1}, None)
        mine = store.state.get("x")
        assert mine is not None
        assert store.state.swap("x", {"n": 2}, mine.token)
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    assert seen == [{"n": 2}]
    [(newest,)] = store._database.rows("SELECT max(token) FROM kedge_documents")
    after = store.state.get("x")
    assert after is not None
    assert after.token == newest


def test_edges_are_numpys_quantiles_exactly(store: DuckStore) -> None:
    rows = random_rows(72, 3000, model="m")
    store.append(rows)
    found = store.edges("m", Window(START, START + 6 * HOUR), ["amount"], []).numeric["amount"]
    values = np.array([row.num["amount"] for row in rows if "amount" in row.num], np.float32)
    assert found == numeric_edges(np.quantile(values.astype(np.float64), np.linspace(0, 1, 21)))


def test_edges_of_many_rows_come_of_a_sample_with_the_extremes_and_few_values_exact(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(73)
    many, few = rng.normal(size=8_000).astype(np.float32), rng.integers(0, 40, 8_000)
    few[4_321] = 1_000_000  # once: no sample need hold it
    rows = [
        Prediction(
            id=str(i),
            timestamp=START + i * 2_000,
            ingested=START,
            model="m",
            num={"many": float(many[i]), "few": float(few[i])} | ({"rare": 5.0} if i == 5_000 else {}),
        )
        for i in range(len(many))
    ]
    store.append(rows)
    monkeypatch.setattr(database, "BATCH_ROWS", 2048)
    monkeypatch.setattr(draw, "SAMPLED_FROM", 8_000)
    monkeypatch.setattr(draw, "SAMPLE", 2_000)
    names, window = ["many", "few", "rare", "never"], Window(START, START + 6 * HOUR)
    found = store.edges("m", window, names, [])
    assert found.hash == store.edges("m", window, names, []).hash

    shares = np.linspace(0, 1, 21)
    assert found.numeric["few"] == numeric_edges(np.quantile(few.astype(np.float64), shares))
    assert found.numeric["rare"] == numeric_edges([5.0])
    assert "never" not in found.features
    drawn = found.numeric["many"].edges
    assert drawn != numeric_edges(np.quantile(many.astype(np.float64), shares)).edges
    ranks = np.searchsorted(np.sort(many), drawn[:-1]) / len(many)
    assert 0 < np.abs(ranks - shares[:-1]).max() < 0.04
    assert drawn[0] == many.min()
    assert drawn[-1] == np.nextafter(many.max(), np.float32(np.inf))
