"""`kedge rules explain`: what a rule reads, what that is, and how far it is from firing."""

import pytest

from kedge.alerting.loading import parse_rules
from kedge.config import Settings
from kedge.errors import BadInput
from kedge.rehearsal.explain import explain_rule
from kedge.windows import MINUTE, iso
from tests.pipeline.world import MODEL, T0, prediction, settings, world

RULES = """
version: 1
defaults: {model: fraud, window: 5m}
rules:
- {name: failing, metric: errors.rate, by: [segment.region], above: 30%, for: 3m, evidence: point}
- {name: slow, metric: latency.p95, above: 10s}
- {name: odd, metric: errors.rate, compare: {to: baseline}, rise: 2x}
- {name: other, metric: errors.rate, model: churn, above: 5%}
"""


def test_a_rule_is_told_with_its_alerts_and_their_distance() -> None:
    with world(book=parse_rules(RULES), settings=settings(fraud={"bucket": "1m"})) as one:
        rows = [prediction(i, T0 + i * 10_000, failed=i % 4 != 0 and i >= 36) for i in range(54)]
        one.send(rows)
        for minute in range(9):
            one.tick(T0 + (minute + 1) * MINUTE + 60_000)
        (row,) = explain_rule(one.pipe, one.book.by_name["failing"], one.now)
        assert (row["model"], row["judged_every"], row["reads"]["by"]) == (MODEL, "1m", ["segment.region"])
        assert row["missing"] == []
        assert row["judged_through"] == iso(T0 + 9 * MINUTE)
        eu, us = row["alerts"]
        assert (eu["group"], eu["state"], eu["found"]) == ({"segment.region": "eu"}, "pending", "breach")
        assert eu["away"].endswith("beyond the bound")
        assert eu["fires_at"] > row["judged_through"]
        assert (us["state"], us["last_fired"]) == ("inactive", None)
        assert us["away"] == "30 % to the bound"
        assert (row["budget"], row["budget_from"]) == (
            *(None, "it judges by a bare value, so it keeps no budget"),
        )
        shared = one.book.shared(one.pipe.receivers.tree).by_name["slow"]
        (of_three,) = explain_rule(one.pipe, shared, one.now)
        assert (of_three["budget"], of_three["budget_from"]) == (
            *("1 per 90d", "its share of the budget of notebook, one of 3"),
        )
        (slow,) = explain_rule(one.pipe, one.book.by_name["slow"], one.now)
        assert slow["alerts"][0]["value"] < 100
        (odd,) = explain_rule(one.pipe, one.book.by_name["odd"], one.now)
        assert odd["missing"] == ["a baseline to compare with (kedge baseline create)"]
        with pytest.raises(BadInput, match="churn, which has not logged"):
            explain_rule(one.pipe, one.book.by_name["other"], one.now)
        with pytest.raises(BadInput, match="watches fraud, and not churn"):
            explain_rule(one.pipe, one.book.by_name["slow"], one.now, "churn")


def test_cells_are_missed_without_a_baseline_beside_metrics_of_ones_own() -> None:
    own = Settings.model_validate({"store": "duckdb::memory:", "metrics": {"rows": {"stat": "count"}}})
    rule = "{name: unseen, metric: quality.unseen, feature: country, window: 5m, above: 5%}"
    with world(
        book=parse_rules(f"version: 1\ndefaults: {{model: fraud}}\nrules: [{rule}]\n"), settings=own
    ) as one:
        one.send([prediction(i, T0 + i * 10_000) for i in range(12)])
        one.tick(T0 + 4 * MINUTE)
        (row,) = explain_rule(one.pipe, one.book.by_name["unseen"], one.now)
        assert row["missing"] == ["the cells of the features, which need a baseline (kedge baseline create)"]
