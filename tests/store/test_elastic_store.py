"""What only a search server can get wrong: limits, edges of cells, names, dropped and closed indices."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from kedge.alerting.finding import Severity
from kedge.errors import KedgeError, TooManyBuckets
from kedge.pipeline.schema import Features
from kedge.records import Label, Prediction
from kedge.sketch import (
    CategoricalEdges,
    Core,
    EdgeSet,
    NumericEdges,
    PartName,
    categorical_edges,
    numeric_edges,
)
from kedge.store.base import (
    Joined,
    MetricDoc,
    PartlyAppended,
    PartRow,
    SummaryKey,
    SummaryQuery,
    SummaryRequest,
    Written,
)
from kedge.store.elastic import ElasticStore, open_elastic, quantiles, summaries
from kedge.store.elastic.aggregations import cost, time_buckets
from kedge.store.elastic.client import Client
from kedge.store.elastic.names import Names
from kedge.store.elastic.operations import Item, Operation, Search
from kedge.store.elastic.place import OwnPlace
from kedge.windows import DAY, HOUR, MINUTE, Window, parse_time
from tests.store.conftest import indices
from tests.support.oracle import answer_to, differences

T0 = parse_time("2026-03-02T10:00:00Z")
DAYS = Window(T0 - T0 % DAY, T0 - T0 % DAY + DAY)


def prediction(id: str, model: str, **fields: Any) -> Prediction:
    return Prediction(**{"id": id, "timestamp": T0, "ingested": T0, "model": model, **fields})


def request(model: str, *parts: PartName, **fields: Any) -> SummaryRequest:
    return SummaryRequest(
        **{"model": model, "window": DAYS, "bucket": HOUR, "parts": frozenset(parts), **fields}
    )


def same(store: ElasticStore, asked: SummaryRequest, rows: list[Prediction]) -> None:
    expected = answer_to(asked, rows)
    found = {row.key: row.part for row in store.summarise(asked)}
    assert found.keys() == expected.keys()
    assert [line for key, part in expected.items() for line in differences(part, found[key])] == []


def test_values_on_an_edge_fall_in_the_cell_that_begins_there(store: ElasticStore) -> None:
    column = np.random.default_rng(3).lognormal(0, 8, 400).astype(np.float32)
    edges = numeric_edges(np.quantile(column, np.linspace(0, 1, 21)))
    assert edges is not None
    at = np.array(edges.edges, np.float32)
    values = np.concatenate([at, np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(np.inf))])
    rows = [prediction(f"edge-{i}", "edge", num={"x": float(v)}) for i, v in enumerate(values)]
    assert {r.written for r in store.append(rows)} == {Written.CREATED}
    store.changed({})
    same(store, request("edge", PartName.CELLS, edges=EdgeSet({"x": edges})), rows)


def test_an_append_that_the_server_was_too_busy_for_tells_which_rows_are_written(
    store: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [prediction(f"busy-{i}", "busy") for i in ("old", "new", "stuck")]
    store.append(rows[:1])
    write = store._client._bulk_once

    def busy_for_one(chunk: Sequence[Operation]) -> list[Item]:
        taken = [o for o in chunk if b"busy-stuck" not in o.lines]
        items = iter(write(taken) if taken else [])
        return [next(items) if o in taken else Item(429, "busy", "it says") for o in chunk]

    with monkeypatch.context() as patched:
        patched.setattr(store._client, "_bulk_once", busy_for_one)
        patched.setattr("kedge.store.elastic.client.time.sleep", lambda seconds: None)
        with pytest.raises(PartlyAppended, match="it says") as caught:
            store.append(rows)
    written = [result and result.written for result in caught.value.results]
    assert written == [Written.DUPLICATE, Written.CREATED, None]
    again = [result.written for result in store.append(rows)]
    assert again == [Written.DUPLICATE, Written.DUPLICATE, Written.CREATED]


def test_features_whose_names_contain_each_other_live_side_by_side(store: ElasticStore) -> None:
    num = {"a": 1.0, "a.b": 2.0, "a.b.c": 3.0, "a%2Eb": 4.0, " ": 5.0, "größe *": 6.0, "_id": 7.0}
    row = prediction("names", "names", num=num, cat={"a": "x", "a.": "y", ".a": "z"}, segment={"x.y": "eu"})
    assert store.append([row])[0].written is Written.CREATED
    store.changed({})
    [document] = store.examples("names", DAYS)
    assert document["features"] == {"num": num, "cat": dict(row.cat)}
    asked = request("names", PartName.CORE, numeric=tuple(num), groupings=(("segment.x.y",),))
    same(store, asked, [row])


def test_a_label_changes_nothing_else_of_its_row(store: ElasticStore) -> None:
    """Under every storage profile: rows without a source are put together anew when they are written back."""
    rng = np.random.default_rng(4)
    row = prediction(
        "whole",
        "whole",
        version="v1",
        cls="a",
        probability=0.1,
        probabilities={"a": 0.1, "b.c": 0.30000000000000004},
        entropy=float(rng.random()),
        value=123456789.123456789,
        num={f"n{i}": float(v) for i, v in enumerate(rng.lognormal(0, 20, 50))},
        cat={"c": "é", "empty": ""},
        invalid=("p", "q"),
        segment={"region": "eu"},
        latency_ms=12.3456789,
        business={"cost": 0.1},
        resource={"cpu": 0.7},
        attributions={"n0": -0.2},
        service="s",
        host="h",
        trace="t",
        error_type="E",
        error_message="boom",
    )
    store.append([row])
    store.changed({})
    [before] = store.examples("whole", DAYS)
    for step in range(3):
        label = Label(id="whole", timestamp=T0 + step, ingested=T0, cls="a")
        assert store.label([label]) == [Joined.JOINED]
        store.changed({})
    [after] = store.examples("whole", DAYS)
    assert after.pop("label")["class"] == "a"
    assert after.pop("outcome")["correct"] is True
    assert after == before
    same(store, request("whole", *PartName), [msgspec.structs.replace(row, label=label)])


def test_the_fingerprint_of_labels_is_the_sum_of_sequence_numbers(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    rows = [prediction(f"seq-{i}", "seq", cls="a") for i in range(9)]
    store.append(rows)
    store.changed({})
    store.label([Label(id=row.id, timestamp=T0, ingested=T0, cls="b") for row in rows[:5]])
    store.changed({})
    [labels] = store.summarise(request("seq", PartName.LABELS, epoch=3))
    body = {"query": {"ids": {"values": [row.id for row in rows[:5]]}}, "seq_no_primary_term": True}
    hits = client.search(f"{prefix}-predictions-*", body)["hits"]["hits"]
    assert labels.version == (3 << 56) + sum(hit["_seq_no"] for hit in hits)
    [core] = store.summarise(request("seq", PartName.CORE, epoch=3))
    assert core.version == (3 << 56) + 9


def test_a_row_that_breaks_the_field_limit_is_rejected_and_costs_no_other(store: ElasticStore) -> None:
    later = T0 + 3 * DAY  # a day of its own: the fields of an index are common to its rows
    wide = prediction("wide", "wide", timestamp=later, num={f"f{i}": 1.0 for i in range(5_001)})
    fine = [prediction(f"fine-{i}", "wide", timestamp=later, num={"x": 1.0}) for i in range(2)]
    results = store.append([fine[0], wide, fine[1]])
    assert [r.written for r in results] == [Written.CREATED, Written.REJECTED, Written.CREATED]
    assert "5000" in results[1].reason


@pytest.mark.parametrize("id", ["", "x" * 513, "é" * 257])
def test_an_id_that_no_document_can_have_is_rejected(store: ElasticStore, id: str) -> None:
    results = store.append([prediction(id, "ids"), prediction(f"beside {len(id)}", "ids")])
    assert [r.written for r in results] == [Written.REJECTED, Written.CREATED]
    assert "512" in results[0].reason


def test_numbers_beyond_float32_are_missing_and_cost_no_row(store: ElasticStore) -> None:
    row = prediction("big", "big", latency_ms=1e39, num={"x": 1.0, "y": -1e300}, value=1e200, cls="a")
    assert store.append([row])[0].written is Written.CREATED
    store.changed({})
    same(store, request("big", PartName.CORE, numeric=("x", "y")), [row])


def test_more_groups_than_one_answer_may_hold_are_asked_for_in_pieces(store: ElasticStore) -> None:
    """300 groups of 322 latency cells, in one bucket of time, exceed the 65,536 buckets of an answer."""
    rows = [
        prediction(f"groups-{i}", "groups", segment={"g": f"g{i % 300}"}, latency_ms=float(i))
        for i in range(600)
    ]
    store.append(rows)
    store.changed({})
    asked = request("groups", PartName.CORE, groupings=((), ("segment.g",)))
    before = store.counters.requests
    store.summarise(asked)
    assert store.counters.requests - before > 1, "one search would have been refused"
    same(store, asked, rows)


def test_requests_that_the_server_finds_too_large_are_cut_until_they_are_answered(
    store: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own error decides, where nothing was cut beforehand; what is beside it is asked once."""
    rows = [
        prediction(
            f"cut-{model}-{i}", f"cut {model}", timestamp=T0 + i * MINUTE, latency_ms=float(i), cls="a"
        )
        for model in ("large", "small")
        for i in range(300 if model == "large" else 3)
    ]
    store.append(rows)
    store.changed({})
    asked = [
        request(f"cut {model}", PartName.CORE, bucket=MINUTE, groupings=((), ("version",)))
        for model in ("small", "large", "none")
    ]
    monkeypatch.setattr(store._client, "max_buckets", 10**9)  # it is told that all fits
    before = store.counters.by_verb.get("_msearch", 0)
    found = store.summarise_many(asked)
    assert store.counters.by_verb["_msearch"] > before + 1, (
        "the server refused nothing: the test is too small"
    )
    for each, answer in zip(asked, found, strict=True):
        expected = answer_to(each, rows)
        keyed = {row.key: row.part for row in answer}
        assert len(keyed) == len(answer)
        assert keyed.keys() == expected.keys()
        assert [line for key, part in expected.items() for line in differences(part, keyed[key])] == []


def test_cells_of_many_features_are_counted_a_few_a_search_and_come_in_one_part(
    store: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {f"n{i}": NumericEdges((0.0, float(i + 1), 20.0)) for i in range(7)}
    edges = EdgeSet({"tier": CategoricalEdges(("gold", "silver")), **numbers})
    rows = [
        prediction(
            f"beside-{i}",
            "beside",
            timestamp=T0 + i * MINUTE,
            num={name: float(i % 9) for name in numbers if (i + len(name)) % 4},
            cat={"tier": ("gold", "silver", "lead")[i % 3]},
            segment={"g": f"g{i % 2}"},
        )
        for i in range(150)
    ]
    store.append(rows)
    store.changed({})
    asked = request(
        "beside", PartName.CORE, PartName.CELLS, edges=edges, groupings=((), ("segment.g",)), numeric=("n0",)
    )
    sent: list[int] = []
    search_many = store._client.search_many

    def counting(searches: Sequence[Search], **options: Any) -> Any:
        sent.append(len(searches))
        return search_many(searches, **options)

    monkeypatch.setattr(store._client, "search_many", counting)
    same(store, asked, rows)
    together = {row.key: row.version for row in store.summarise(asked)}
    assert sent[-1] == 3, f"the core, five features, three features: {sent}"
    assert set(together.values()) == {
        row.version for row in store.summarise(dataclasses.replace(asked, parts=frozenset({PartName.CORE})))
    }


def test_more_values_than_a_dimension_may_have_is_an_error_and_nothing_is_left_out(
    store: ElasticStore,
) -> None:
    rows = [prediction(f"many-{i}", "many", segment={"g": str(i)}) for i in range(1_001)]
    store.append(rows)
    store.changed({})
    with pytest.raises(KedgeError, match=r"more than 1000 values of segment\.g"):
        store.summarise(request("many", PartName.LABELS, PartName.CORE, groupings=(("segment.g",),)))


def test_a_rebuilt_index_is_reported_and_its_rows_are_found_again(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    earlier = T0 - 40 * DAY
    row = prediction("rebuilt", "rebuilt", timestamp=earlier)
    store.append([row])
    seen = store.changed({})
    assert not store.changed(seen.watermark).replaced
    client.request("DELETE", f"/{prefix}-predictions-default-2026.01.21-000001")
    dropped = store.changed(seen.watermark)
    assert not dropped.replaced
    assert dropped.dirty == {}
    assert store.append([row])[0].written is Written.CREATED
    again = store.changed(seen.watermark)
    assert again.replaced
    assert again.dirty["rebuilt"] == {earlier}


def test_a_label_does_not_bring_a_dropped_index_back(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    row = prediction("gone", "gone", timestamp=T0 - 50 * DAY)
    store.append([row])
    store.changed({})
    index = f"{prefix}-predictions-default-2026.01.11-000001"
    client.request("DELETE", f"/{index}")
    assert store.label([Label(id="gone", timestamp=T0, ingested=T0, cls="a")]) == [Joined.WAITING]
    assert index not in indices(client, prefix)


def test_rows_in_a_closed_index_are_never_counted_as_none(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    t = T0 - 60 * DAY
    store.append([prediction("closed", "closed", timestamp=t)])
    store.changed({})
    index = f"{prefix}-predictions-default-2026.01.01-000001"
    window = Window(t - t % DAY, t - t % DAY + DAY)
    asked = dataclasses.replace(request("closed", PartName.CORE), window=window)
    assert len(store.summarise(asked)) == 1
    client.request("POST", f"/{index}/_close")
    with pytest.raises(KedgeError, match="closed"):
        store.summarise(asked)
    client.request("DELETE", f"/{index}")


def test_edges_are_the_linear_quantiles_of_the_rows(
    store: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    columns = {"normal": rng.normal(size=3_000), "few": rng.integers(0, 7, 3_000), "one": np.full(3_000, 0.1)}
    names = [f"v{min(int(v), 60)}" for v in rng.exponential(15, 3_000)]
    store.append(
        [
            prediction(
                f"q-{i}", "q", num={f: float(c[i]) for f, c in columns.items()}, cat={"name": names[i]}
            )
            for i in range(3_000)
        ]
    )
    store.changed({})
    found = store.edges("q", DAYS, [*columns, "none"], ["name", "nothing"])
    assert set(found.features) == {*columns, "name"}
    probabilities = np.linspace(0, 1, 21)
    for feature, column in columns.items():
        exact = np.quantile(column.astype(np.float32).astype(np.float64), probabilities)
        assert found.features[feature] == numeric_edges(exact)
    assert found.features["name"] == categorical_edges((v, names.count(v)) for v in set(names))

    monkeypatch.setattr(quantiles, "_MOST_DISTINCT", 100)  # then by t-digest, close in rank
    near = store.edges("q", DAYS, ["normal"], []).features["normal"]
    assert isinstance(near, NumericEdges)
    ranks = np.searchsorted(np.sort(columns["normal"]), near.edges[:-1]) / 3_000
    assert np.abs(ranks - probabilities[:-1]).max() < 0.002
    assert near.edges[0] == np.float32(columns["normal"].min())

    monkeypatch.setattr(quantiles, "_SAMPLED_FROM", 1_000)  # then of a sample, where the server draws one
    monkeypatch.setattr(quantiles, "_SAMPLE", 1_000)
    sampled = store.edges("q", DAYS, [*columns], ["name"]).features
    drawn = sampled["normal"]
    assert isinstance(drawn, NumericEdges)
    ranks = np.searchsorted(np.sort(columns["normal"]), drawn.edges[:-1]) / 3_000
    assert np.abs(ranks - probabilities[:-1]).max() < 0.08
    assert drawn.edges[0] == np.float32(columns["normal"].min())
    assert drawn.edges[-1] == np.nextafter(np.float32(columns["normal"].max()), np.float32(np.inf))
    exactly = (found.features[feature] for feature in ("few", "one", "name"))
    assert [sampled[feature] for feature in ("few", "one", "name")] == list(exactly)


def test_attributions_are_asked_for_only_where_logs_have_them() -> None:
    def asked(*names: str) -> str:
        wanted = request("m", PartName.CORE, attributions=names)
        return json.dumps(time_buckets(OwnPlace(Names("kedge")), wanted, wanted.parts, [()]))

    assert "attributions" not in asked()
    assert asked("x").count('"attributions.x"') == 2
    assert cost(request("m", PartName.CORE), frozenset({PartName.CORE})) + 2 == cost(
        request("m", PartName.CORE, attributions=("x",)), frozenset({PartName.CORE})
    )


def test_probabilities_of_every_class_are_asked_for_only_where_a_model_has_more_than_two() -> None:
    def asked(*classes: str) -> str:
        wanted = request("m", PartName.LABELS, probabilities=Features(probabilities=classes).ranked)
        return json.dumps(time_buckets(OwnPlace(Names("kedge")), wanted, wanted.parts, [()]))

    assert asked() == asked("a", "b") == asked(*map(str, range(21)))
    assert "probabilities" not in asked("a", "b")
    assert asked("a", "b", "c").count('"prediction.probabilities.a"') == 2
    part = frozenset({PartName.LABELS})
    assert cost(request("m", *part, probabilities=("a", "b", "c")), part) > cost(request("m", *part), part)


def test_a_single_bucket_beyond_the_limit_says_so(store: ElasticStore) -> None:
    """The cells of one feature, in one bucket and group, cannot be cut any further."""
    store.append([prediction("huge", "huge", num={"x": 1.0})])
    store.changed({})
    huge = EdgeSet({"x": NumericEdges(tuple(float(i) for i in range(66_000)))})
    with pytest.raises(TooManyBuckets):
        store.summarise(request("huge", PartName.CELLS, edges=huge))


def test_summaries_of_many_models_come_whole_over_several_pages(
    store: ElasticStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        PartRow(
            SummaryKey(f"pages {m}", (), MINUTE, T0 + i * MINUTE, PartName.CORE), m * 10 + i, Core(rows=i)
        )
        for m in range(3)
        for i in range(5)
    ]
    assert all(store.write(rows))
    monkeypatch.setattr(summaries, "_PAGE", 4)
    monkeypatch.setattr(summaries, "_MODELS", 2)
    window = Window(T0, T0 + HOUR)
    names = [f"pages {m}" for m in range(3)]
    assert store.versions_many(names, MINUTE, window) == {row.key: row.version for row in rows}
    queries = [SummaryQuery(name, MINUTE, window, frozenset(PartName)) for name in names]
    assert store.read_many(queries) == [[row for row in rows if row.key.model == name] for name in names]


def test_metrics_are_columns_that_people_can_chart(store: ElasticStore, client: Client, prefix: str) -> None:
    values = {
        "latency.p50": {"value": 12.5, "n": 9},
        "performance.recall{class=fraud}": {"value": 0.5, "n": 4},
    }
    group = (("segment.region", "eu"), ("version", "v7"))
    store.write_metrics([MetricDoc("charts", group, Window(T0, T0 + HOUR), 1, values)])
    body = {"query": {"term": {"model.name": "charts"}}}
    client.refresh(f"{prefix}-metrics-*")
    [hit] = client.search(f"{prefix}-metrics-*", body)["hits"]["hits"]
    source = hit["_source"]
    assert source["metrics"] == {"latency_p50": 12.5, "performance_recall{class=fraud}": 0.5}
    assert source["model"] == {"name": "charts", "version": "v7"}
    assert source["segment"] == {"region": "eu"}
    asked = {"size": 0, "aggs": {"m": {"avg": {"field": "metrics.latency_p50"}}}}
    assert client.search(f"{prefix}-metrics-*", asked)["aggregations"]["m"]["value"] == 12.5


def test_alerts_can_be_searched_by_what_they_say(store: ElasticStore, client: Client, prefix: str) -> None:
    alert = {
        "rule": "slow",
        "model": "fraud",
        "version": "v7",
        "group": {"segment.region": "eu"},
        "status": "firing",
        "severity": int(Severity.HIGH),
        "evaluated_through": T0,
    }
    assert store.alerts.swap("slow/eu", alert, None)
    store.alerts.find()
    query = {"bool": {"filter": [{"term": {"severity": "high"}}, {"term": {"group.segment%2Eregion": "eu"}}]}}
    [hit] = client.search(f"{prefix}-alerts", {"query": query})["hits"]["hits"]
    assert hit["_source"]["value"] == alert
    assert hit["_source"]["rule"] == "slow"


# --- set-up ---


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    url: str, client: Client, bare_prefix: str
) -> None:
    opened = open_elastic(url, prefix=bare_prefix, clock=lambda: 0)
    checks = opened.setup(dry_run=True)
    assert any(check.changed for check in checks)
    assert indices(client, bare_prefix) == set()
    templates = client.request(
        "GET", "/_component_template", params={"filter_path": "component_templates.name"}
    )
    names = [t["name"] for t in templates.get("component_templates", [])]
    assert not [name for name in names if name.startswith(bare_prefix)]
    opened.close()


def test_before_set_up_every_verb_says_what_is_missing(url: str, bare_prefix: str) -> None:
    opened = open_elastic(url, prefix=bare_prefix, clock=lambda: 0)
    for call in (
        lambda: opened.append([prediction("x", "x")]),
        lambda: opened.state.get("x"),
        lambda: opened.state.swap("x", {}, None),
        lambda: opened.state.find(),
        lambda: opened.join_pending(0, 0),
    ):
        with pytest.raises(KedgeError, match="kedge setup"):
            call()
    opened.close()


def test_rows_are_stored_without_a_source_where_the_server_can(store: ElasticStore) -> None:
    [storage] = [check for check in store.setup() if check.name == "storage"]
    assert "source: rows are put together from doc values" in storage.detail


def test_a_template_that_kedge_changed_is_updated_and_said_so(
    store: ElasticStore, client: Client, prefix: str
) -> None:
    name = f"{prefix}-settings"
    old = {
        "template": {"settings": {"index": {"number_of_shards": 1}}},
        "_meta": {"hash": "of an older kedge"},
    }
    client.request("PUT", f"/_component_template/{name}", old)
    for dry_run, word in ((True, "would be updated"), (False, "updated")):
        changed = [check for check in store.setup(dry_run=dry_run) if check.changed]
        assert [(check.detail, check.name) for check in changed] == [(word, f"component template {name}")]
    assert not [check for check in store.setup() if check.changed]


def test_the_feed_reports_minutes_of_several_days(store: ElasticStore) -> None:
    before = store.changed({}).watermark
    times = [T0, T0 + MINUTE, T0 + 5 * DAY, T0 - 5 * DAY]
    store.append([prediction(f"feed-{t}", "feed", timestamp=t + 1) for t in times])
    assert store.changed(before).dirty == {"feed": set(times)}
