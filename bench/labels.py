"""Labels a second, from the bytes of a request to the labelled row, on Elasticsearch."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from bench import rows as generated
from bench.fleet import Fleet, append, minute_of
from bench.processes import kedge_on
from bench.targets import at_least
from ingest.service import IngestService
from kedge.clock import system_clock
from kedge.windows import DAY, floor, iso

TARGET = 8_000
BATCH = 5_000


def measure(url: str, *, batches: int = 6, rounds: int = 3, callers: int = 2) -> dict[str, object]:
    """Batches of 5,000 labels through the gateway's service (`IngestService.labels`: decoding, validation,
    join), each label for another row of 30 features. The HTTP server in front of it is left out."""
    fleet = Fleet(1)
    day = floor(system_clock(), DAY) - 2 * DAY
    rates = []
    with kedge_on(url) as (_, store, client):
        service = IngestService(store, store.state, system_clock)
        for number in range(rounds):
            events = minute_of(day + number * DAY // rounds, batches * BATCH)
            append(store, fleet.rows(events))
            store.changed({})  # makes them visible to search
            said = [
                {"id": label.id, "class": label.cls, "timestamp": iso(label.timestamp)}
                for label in fleet.labels(events, day + DAY)
            ]
            bodies = generated.bodies(said, BATCH)
            began = time.perf_counter()
            with ThreadPoolExecutor(callers) as pool:
                for answer in pool.map(lambda body: service.labels(body, lines=True), bodies):
                    if answer.accepted != BATCH:
                        raise RuntimeError(f"not every label found its prediction: {answer}")
            rates.append(batches * BATCH / (time.perf_counter() - began))
        return {
            "server": str(client.server),
            "batch": BATCH,
            "callers": callers,
            "labels_per_round": batches * BATCH,
            "rounds": [round(r) for r in rates],
            "labels_per_s": at_least(statistics.median(rates), TARGET),
        }
