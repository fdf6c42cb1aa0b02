"""A user's data stream, by no more than kedge.yml: rules fire on it, metrics and doctor tell of it."""

import secrets
from pathlib import Path

import msgspec

from kedge.windows import HOUR, iso
from tests.e2e.harness import stack
from tests.e2e.launcher import Launcher
from tests.store.foreign_logs import ECS_STREAM, SPAN, START, Logger, rows_of

SETTINGS = """
sources:
- index: INDEX
  preset: ecs
  map:
    prediction.class: ml.predicted
    prediction.probability: ml.score
    segment.region: ml.region
    label.class: ml.truth.class
    label.delay: ml.truth.delay
  features: ml.features.*
models:
  fraud: {bucket: 1h, positive_class: "yes", labels: {mature_after: 1h}}
"""
RULES = """
version: 1
defaults: {model: fraud}
rules:
- {name: failing, metric: errors.rate, by: [segment.region], window: 1h, above: {high: 50%}, min_count: 20}
"""


def test_a_data_stream_is_judged_like_any_log(tmp_path: Path, kedge: Launcher, opensearch_url: str) -> None:
    logger = Logger(opensearch_url, f"logs-ml-{secrets.token_hex(5)}", ECS_STREAM)
    rows = rows_of(400, ["fraud"], labelled=1.0)
    bad = SPAN.end - HOUR
    rows = [
        msgspec.structs.replace(row, error_type="down", cls=None, probability=None)
        if row.timestamp >= bad and row.segment.get("region") == "eu"
        else row
        for row in rows
    ]
    try:
        with stack(tmp_path, opensearch_url, clock=f"{START}:1") as one:
            one.write(RULES, SETTINGS.replace("INDEX", logger.index))
            now = ["--now", iso(SPAN.end + 30 * 60_000)]
            assert kedge(["setup"], tmp_path, one.own_env).code == 0
            kedge(["tick", "--drain", "--now", iso(START), "--json"], tmp_path, one.own_env)
            logger.log(rows)
            told = kedge(["setup", "--dry-run"], tmp_path, one.own_env)
            assert f"source {logger.index}" in told.out
            assert "drift and quality of 4 features" in told.out
            done = kedge(["tick", "--drain", *now, "--json"], tmp_path, one.own_env)
            assert done.code == 0, done
            fired = {
                (e["after"], e["group"]["segment.region"]) for e in one.events() if e["after"] == "firing"
            }
            assert fired == {("firing", "eu")}
            metrics = kedge(
                ["metrics", "fraud", "--metric", "performance.accuracy", "--window", "1h", "--json"],
                tmp_path,
                one.own_env,
            ).rows
            judged = {row["window_start"]: (row["value"], row["n"]) for row in metrics}
            for hour in range(SPAN.start, SPAN.end, HOUR):
                with_class = [r for r in rows if r.timestamp // HOUR * HOUR == hour and r.cls is not None]
                right = sum(r.cls == r.label.cls for r in with_class if r.label)
                value, n = judged[iso(hour)]
                assert n == len(with_class)
                assert abs(value - right / n) < 1e-9
    finally:
        logger.close()
