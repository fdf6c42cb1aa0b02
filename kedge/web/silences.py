"""The routes of silences."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from kedge.alerting.matchers import parse_match
from kedge.alerting.silences import Phase
from kedge.errors import BadInput
from kedge.pipeline.context import Pipeline
from kedge.pipeline.query import alert_rows
from kedge.pipeline.silences import add_silence, all_silences, expire_silence, silence_row
from kedge.store.base import LIVE_ALERTS, Json
from kedge.windows import parse_duration, parse_time


class NewSilence(BaseModel):
    model_config = ConfigDict(extra="forbid")

    match: dict[str, Any]
    """Labels that an alert must have: `{"model": "fraud", "severity": "<= medium"}`."""
    author: str
    reason: str
    starts: str | None = None
    """RFC 3339; now unless said."""
    ends: str | None = None
    lasts: str | None = None
    """`4h`, instead of `ends`."""


def silence_routes(router: APIRouter, pipe: Pipeline) -> None:
    @router.get("/v1/silences")
    def silences(every: bool = False) -> list[Json]:
        """The silences that are in force or to come, newest first; with `every` those that are over too."""
        now = pipe.wall()
        found = all_silences(pipe.store.state)
        return [silence_row(s, now) for s in found if every or s.phase(now) is not Phase.EXPIRED]

    @router.post("/v1/silences")
    def add(body: NewSilence) -> Json:
        """Silence the alerts that match, from `starts` until `ends` or for `lasts`."""
        if (body.ends is None) == (body.lasts is None):
            raise BadInput("say how long: either `ends`, or `lasts` (4h)")
        now = pipe.wall()
        starts = parse_time(body.starts) if body.starts else now
        ends = parse_time(body.ends) if body.ends else starts + parse_duration(body.lasts or "")
        made = add_silence(
            pipe.store.state,
            parse_match(body.match),
            author=body.author,
            reason=body.reason,
            now=now,
            starts=starts,
            ends=ends,
        )
        covered = [r for r in alert_rows(pipe) if r["state"] in LIVE_ALERTS and "silenced" in r]
        by_it = [r for r in covered if r["silenced"]["id"] == made.id]
        return silence_row(made, now) | {"covers": len(by_it)}

    @router.delete("/v1/silences/{silence}")
    def expire(silence: str) -> Json:
        """End a silence now; `silence` is the beginning of its id."""
        now = pipe.wall()
        return silence_row(expire_silence(pipe.store.state, silence, now), now)
