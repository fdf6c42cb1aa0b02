"""What the store says of rules, where it can be asked at once: of a running server, else in this process."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from kedge.alerting.facts import Prospect
from kedge.alerting.loading import RuleBook
from kedge.config import Settings
from kedge.errors import KedgeError

REACHED_S = 2.0
"""How long it may take to reach it: nobody should wait for a store who only wrote a rule."""
ANSWERED_S = 20.0
"""How long an answer may take, once it is reached."""
_UNKNOWN = (404, 405)


class Told(NamedTuple):
    """What the store says."""

    prospects: list[Prospect]
    by: str
    """Who was asked, for people; empty: nobody could be."""
    why: str = ""
    """Why not."""
    there: bool = True
    """False: nothing was ever stored, so there is nothing that could be asked."""


def ask_store(settings: Settings, book: RuleBook, texts: Mapping[str, str], *, whole: bool) -> Told:
    """What there is to say of the rules of `texts`, which are `book`; `whole`: there are no others. Never
    raises for a store that cannot be asked. Nothing is written, and nothing set up."""
    from kedge.cli.client import running_server

    try:
        url = running_server(settings, REACHED_S)
        if url:
            return Told(_of_server(url, texts, whole=whole), url)
        missing = _not_there(settings)
        if missing:
            return Told([], "", missing, there=False)
        return Told(_here(settings, book, None if whole else texts.keys()), settings.store_name)
    except KedgeError as error:
        return Told([], "", str(error))


def _of_server(url: str, texts: Mapping[str, str], *, whole: bool) -> list[Prospect]:
    from kedge.cli.client import connect_to

    with connect_to(url, answer_s=REACHED_S, connect_s=REACHED_S) as client:
        client.request("GET", "/healthz")  # raises where it is not well: its store does not answer
    with connect_to(url, answer_s=ANSWERED_S, connect_s=REACHED_S) as client:
        body = {"files": dict(texts), "whole": whole}
        answer = client.request("POST", "/v1/rules/check", json=body, accept=_UNKNOWN)
        if answer.status_code in _UNKNOWN:
            raise KedgeError(f"the server at {url} is of an earlier kedge, which cannot tell")
        return [Prospect(row["rule"], row["field"], row["warning"], row["file"]) for row in answer.json()]


def _not_there(settings: Settings) -> str:
    """Why there is no DuckDB file to look at, which would be made by opening it; empty where there is one."""
    path = settings.store.removeprefix("duckdb:")
    if not settings.embedded:
        return ""
    if path in ("", ":memory:"):
        return "it is in memory alone"
    return "" if Path(path).exists() else f"{path} is not there yet"


def _here(settings: Settings, book: RuleBook, files: Collection[str] | None) -> list[Prospect]:
    from kedge.notify.receivers import Receivers
    from kedge.pipeline.compose import open_store
    from kedge.pipeline.context import Pipeline
    from kedge.pipeline.lookout import foreseen

    clock = settings.make_clock()
    if not settings.embedded:
        probe = open_store(settings, clock, timeout_s=REACHED_S)
        try:
            answers = probe.ping()
        finally:
            probe.close()
        if not answers.ok:
            raise KedgeError(answers.detail)
    store = open_store(settings, clock, timeout_s=ANSWERED_S)
    try:
        pipe = Pipeline(store, settings, lambda: book, Receivers({}, ""), "rules check")
        return foreseen(pipe, book, files)
    finally:
        store.close()
