"""The one place that picks implementations for the ports, from the settings."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from kedge.clock import Clock
from kedge.config import NEEDS_A_CLUSTER, STORE_KEY, Settings
from kedge.errors import KedgeError
from kedge.notify.message import Links
from kedge.pipeline.context import Pipeline
from kedge.pipeline.receiver_file import ReceiverSource
from kedge.pipeline.rulebook import RuleSource
from kedge.store.base import Store


def open_store(
    settings: Settings,
    clock: Clock,
    environment: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 60.0,
    memory: str = "",
) -> Store:
    """The store that the settings name; a server's answer may take `timeout_s`, a file be kept in `memory`.
    Each client library is imported only where it is used: they are slow to load.
    """
    if settings.embedded:
        if settings.sources:
            raise KedgeError(NEEDS_A_CLUSTER)
        from kedge.store.duckdb import open_duckdb

        return open_duckdb(settings.store.removeprefix("duckdb:") or ":memory:", clock=clock, memory=memory)
    from kedge.store.elastic import open_elastic

    env = os.environ if environment is None else environment
    return open_elastic(
        settings.store,
        prefix=settings.prefix,
        retention=settings.kept,
        api_key=env.get(STORE_KEY) or None,
        clock=clock,
        timeout=timeout_s,
        sources=[given.source for given in settings.sources],
    )


def open_pipeline(settings: Settings, clock: Clock, store: Store | None = None) -> Pipeline:
    """A pipeline over the settings' store, rules and receivers."""
    store = store or open_store(settings, clock)
    links = Links(dashboard=f"{settings.url}/v1" if settings.url else "", kibana=settings.kibana or "")
    source = ReceiverSource(settings.notify, os.environ, links, store.state)
    return Pipeline(
        store=store,
        settings=settings,
        rules=RuleSource(settings.rules, routing=lambda: source().tree, kept=store.state),
        receivers=source(),
        receiver_source=source,
        holder=f"{socket.gethostname()}:{os.getpid()}",
        sole_writer=settings.embedded,
    )


def rules_folder() -> Path:
    """The ready-made rules that come with kedge: beside the packages in a checkout, inside them once
    installed.
    """
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "rules"
    return beside if beside.is_dir() else package / "_data" / "rules"
