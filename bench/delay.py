"""Time from a row's post to the post in Slack: real processes, the machine's clock, a stand-in Slack."""

import time
from typing import Any

import httpx

from bench.processes import Kedge, NotReady, kedge_on
from kedge.clock import system_clock
from kedge.windows import MINUTE, SECOND, Millis, floor
from tests.support.slack_server import Post, SlackServer

SETTINGS = "models:\n  '*': {bucket: 1m, lag: 1s}\n"
RULES = """version: 1
rules:
  - name: failing
    model: '*'
    metric: errors.rate
    window: 1m
    above: 20%
"""
ROWS = 200
EARLIEST_S = 5
"""A round begins only where this much of its minute is left."""


def measure(url: str, redis: str, *, samples: int = 2) -> dict[str, object]:
    """Each sample is a model of its own whose requests all fail within one minute."""
    with SlackServer(channels={"ml": "C0000000ML"}) as slack:
        variables = {
            "KEDGE_REDIS": redis,
            "KEDGE_EVERY": "1s",
            "SLACK_BOT_TOKEN": slack.token,
            "SLACK_CHANNEL": "#ml",
            "SLACK_API_URL": slack.api_url,
        }
        with kedge_on(url, **variables) as (kedge, _, client):
            (kedge.folder / "kedge.yml").write_text(SETTINGS)
            (kedge.folder / "rules").mkdir()
            (kedge.folder / "rules" / "bench.yml").write_text(RULES)
            address, _process = kedge.gateway()
            kedge.start("worker")
            kedge.start("beat")
            # A first tick pays for imports and connections; the first sample still for a first judgement.
            kedge.until(lambda: "tick: " in (kedge.folder / "worker.log").read_text(), "worker")
            found = [_sample(kedge, address, slack, f"bench-{i}") for i in range(samples)]
            server = str(client.server)
    return {
        "server": server,
        "every_s": 1,
        "bucket_s": 60,
        "lag_s": 1,
        "samples": found,
        "worst_after_due_s": max(s["after_due_s"] for s in found),
    }


def _sample(kedge: Kedge, address: str, slack: SlackServer, model: str) -> dict[str, float]:
    while MINUTE - system_clock() % MINUTE < EARLIEST_S * SECOND:
        time.sleep(0.05)
    posted = system_clock()
    bucket = floor(posted, MINUTE)
    answer = httpx.post(f"{address}/v1/predictions", json=_failures(model, posted), timeout=60).json()
    if answer["accepted"] != ROWS or system_clock() >= bucket + MINUTE:
        raise NotReady(f"the rows did not arrive within their minute: {answer}")

    def told() -> list[Post]:
        return [post for post in slack.posts if model in post.text or model in str(post.blocks)]

    kedge.until(lambda: bool(told()), "worker", 2 * MINUTE / SECOND)
    at = round(told()[0].at * SECOND)
    due = bucket + MINUTE + SECOND
    return {"after_post_s": (at - posted) / SECOND, "after_due_s": (at - due) / SECOND}


def _failures(model: str, at: Millis) -> list[dict[str, Any]]:
    return [
        {"id": f"{model}-{i}", "timestamp": at, "model": model, "error": "timeout", "latency_ms": 900}
        for i in range(ROWS)
    ]
