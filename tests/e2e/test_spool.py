"""`kedge serve --gateway` killed while its store is down: what it answered is stored exactly once."""

import signal
import threading
from pathlib import Path
from typing import Any

import httpx

from kedge.clock import system_clock
from kedge.windows import DAY, HOUR, Window
from tests.e2e.harness import stack, until
from tests.support.proxy import Proxy


def test_kill_9_loses_no_row_that_was_answered(tmp_path: Path, elasticsearch_url: str) -> None:
    now = system_clock()
    answered: list[str] = []

    def post(address: str, begin: int, count: int) -> None:
        """Rows one by one until the gateway is gone."""
        with httpx.Client(base_url=address, timeout=30) as client:
            for i in range(begin, begin + count):
                row: dict[str, Any] = {
                    "id": f"{i}",
                    "timestamp": now - HOUR,
                    "model": "m",
                    "features": {"x": i},
                }
                try:
                    answer = client.post("/v1/predictions", json=row)
                except httpx.HTTPError:
                    return
                assert answer.status_code in (200, 202), answer.text
                answered.append(f"{i}")

    with Proxy(elasticsearch_url).running() as proxy, stack(tmp_path, proxy.url) as one:
        (tmp_path / "kedge.yml").write_text("")
        proxy.down()  # also while the gateway starts: nothing is set up yet
        first = one.serve("--gateway")
        assert httpx.get(f"{one.address}/healthz").json()["ok"], "it does its work without the store"
        posting = [threading.Thread(target=post, args=(one.address, i * 10_000, 9_999)) for i in range(3)]
        for thread in posting:
            thread.start()
        until(lambda: len(answered) > 60, "rows to be answered")
        first.signal(signal.SIGKILL)
        for thread in posting:
            thread.join()

        second = one.start("serve", "--gateway", "--port", "0")
        one.address = second.wait_for(r"listens on (http://[\d.:]+)")[1]
        post(one.address, 50_000, 5)
        spool = httpx.get(f"{one.address}/v1/status").json()["spool"]
        # Up to one row a thread may have been kept whose answer the kill cut off.
        assert 0 <= spool["rows"] - len(answered) <= 3
        proxy.up()
        # Killed again as soon as something has been written, so that some rows are sent twice.
        until(lambda: any(path.startswith("/_bulk") for path, _ in proxy.seen), "a first write")
        second.signal(signal.SIGKILL)

        one.serve("--gateway")
        until(
            lambda: httpx.get(f"{one.address}/v1/status").json()["spool"]["rows"] == 0,
            "the spool to be empty",
        )
        post(one.address, 60_000, 1)
        one.opened.changed({})
        stored = [
            found["event"]["id"] for found in one.opened.examples("m", Window(now - DAY, now + DAY), 10_000)
        ]
        assert len(stored) == len(set(stored))
        assert set(answered) <= set(stored)
        assert len(stored) - len(answered) <= 3
