"""The JSON API: everything the command line does with data goes through here, over HTTP or in process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict

from kedge import __version__
from kedge.alerting.fields import did_you_mean
from kedge.alerting.finding import AlertState
from kedge.alerting.lifecycle import Identity, acknowledge, resolve
from kedge.alerting.loading import RuleBook, parse_files
from kedge.alerting.versions import OTHERS
from kedge.analysis.calibration import BINS
from kedge.clock import Clock
from kedge.errors import BadInput, KedgeError, StoreUnavailable
from kedge.pipeline.baselines import (
    accept_baseline,
    build_baseline,
    decode_baseline,
    import_baseline,
    list_baselines,
    show_baseline,
    use_baseline,
)
from kedge.pipeline.context import Pipeline, declare_positive, groupings_of, settings_of
from kedge.pipeline.curves import reliability_rows
from kedge.pipeline.deliver import project
from kedge.pipeline.examples import examples_of
from kedge.pipeline.feed import load_feed, mark_dirty
from kedge.pipeline.groups import CappedLogs, VersionLogs, full_dimensions
from kedge.pipeline.imports import forget_import, import_progress, keep_import
from kedge.pipeline.models import load_models
from kedge.pipeline.query import alert_rows, history_rows, metric_series, model_feed
from kedge.pipeline.schema import features_of
from kedge.pipeline.tick import TickReport, drain, tick
from kedge.pipeline.version_query import version_row
from kedge.rehearsal.backtest import Asked, backtest
from kedge.rehearsal.explain import explain_rule
from kedge.rehearsal.replay import check_window
from kedge.store.base import Json
from kedge.store.expiry import expired_labels
from kedge.web.checks import check_routes
from kedge.web.silences import silence_routes
from kedge.windows import Millis, Window, ceil, floor, iso, parse_duration, parse_time


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TickBody(_Body):
    now: str | None = None
    """Pretend that it is this time; RFC 3339."""
    drain: bool = False


class BaselineWindow(_Body):
    start: str | None = None
    """RFC 3339; where the logs begin unless said, and only with `version`."""
    end: str | None = None
    version: str | None = None
    """Only rows of this version."""
    use: bool = True


class Accept(_Body):
    id: str = ""
    """The beginning of its id; empty is the one in use."""


class Span(_Body):
    start: str
    end: str | None = None


class By(_Body):
    by: str = ""
    """Who."""


class ImportProgress(_Body):
    file: str = ""
    """For people."""
    rows: int
    counts: dict[str, int]


class BacktestBody(_Body):
    start: str
    """RFC 3339."""
    end: str | None = None
    """Now, unless said."""
    files: dict[str, str] | None = None
    """The rule files, text by name; the rules in force unless given."""
    rules: list[str] = []
    """Only these, by name."""
    against: dict[str, str] | None = None
    """The rule files as they were before an edit."""


class Positive(_Body):
    positive_class: str


def install_errors(app: FastAPI) -> None:
    """Every KedgeError becomes an answer with its sentence: 400 for bad input, 503 where trying again may
    help.
    """

    @app.exception_handler(BadInput)
    def bad_input(_: Request, error: BadInput) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(StoreUnavailable)
    def unavailable(_: Request, error: StoreUnavailable) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "5"})

    @app.exception_handler(KedgeError)
    def other(_: Request, error: KedgeError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)


def api(pipe: Pipeline, clock: Clock, guard: Callable[..., Any]) -> APIRouter:
    """The routes over one pipeline. `guard` is the dependency that lets a client in (ingest/auth.py)."""
    router = APIRouter(dependencies=[Depends(guard)])
    _operate(router, pipe, clock)
    _read(router, pipe, clock)
    silence_routes(router, pipe)
    check_routes(router, pipe)
    _baselines(router, pipe, clock)
    return router


def _operate(router: APIRouter, pipe: Pipeline, clock: Clock) -> None:
    @router.post("/v1/tick")
    def run_tick(body: TickBody) -> Json:
        """Run the pipeline once, or until nothing is due."""
        now = parse_time(body.now) if body.now else clock()
        reports = drain(pipe, now) if body.drain else [tick(pipe, now)]
        return tick_json(reports)

    @router.post("/v1/backtest")
    def run_backtest(body: BacktestBody) -> StreamingResponse:
        """What rules would have done: one JSON object a line, how much is done and at the end the result."""
        return StreamingResponse(
            (msgspec.json.encode(line) + b"\n" for line in backtest_of(pipe, body, clock())),
            media_type="application/x-ndjson",
        )

    @router.post("/v1/summarise/{model}")
    def summarise(model: str, body: Span) -> Json:
        """Make the buckets of a span due again; parts that exist already are not written again."""
        known = model_feed(pipe, model)
        end = parse_time(body.end) if body.end else known.last + known.base
        feed = mark_dirty(pipe.store.state, model, Window(parse_time(body.start), end))
        return {"model": model, "due": len(feed.models[model].history)}

    @router.get("/v1/imports/{name}")
    def progress_of_import(name: str) -> Json:
        """How far an import has come, by the fingerprint of its file; {} where none is under way."""
        return import_progress(pipe.store.state, name)

    @router.put("/v1/imports/{name}")
    def progress_so_far(name: str, body: ImportProgress) -> Json:
        """Note that the first `rows` of a file are stored, and what became of them."""
        keep_import(pipe.store.state, name, body.model_dump())
        return {}

    @router.delete("/v1/imports/{name}")
    def forget(name: str) -> Json:
        """The import has ended, or is to begin anew."""
        forget_import(pipe.store.state, name)
        return {}

    @router.post("/v1/models/{model}/positive")
    def positive(model: str, body: Positive) -> Json:
        """Declare a model's positive class, where kedge.yml does not."""
        declare_positive(pipe.store.state, model, body.positive_class)
        return {"model": model, "positive_class": body.positive_class}

    @router.post("/v1/alerts/{alert}/{action}")
    def act(alert: str, action: str, body: By) -> Json:
        """Acknowledge (`ack`) or resolve an alert; `alert` is the beginning of its id."""
        if action not in ("ack", "resolve"):
            raise HTTPException(404)
        name = _one_alert(alert)
        change = acknowledge if action == "ack" else resolve
        while True:
            stored = pipe.store.alerts.get(name)
            if stored is None:
                raise BadInput(f"alert {alert} is gone")
            before = msgspec.convert(stored.value, AlertState)
            rule = pipe.rules().by_name.get(before.rule)
            state = change(before, body.by or "the API", rule.identity if rule else Identity(), clock())
            if pipe.store.alerts.swap(name, msgspec.to_builtins(state), stored.token):
                project(pipe.store, pipe.current_receivers(), pipe.wall())
                return next(r for r in alert_rows(pipe, every=True) if r["id"] == name)

    def _one_alert(prefix: str) -> str:
        matching = list(pipe.store.alerts.find(prefix))
        if len(matching) != 1:
            raise BadInput(f'{len(matching) or "no"} alerts begin with "{prefix}" (see kedge alerts list)')
        return matching[0]


def _read(router: APIRouter, pipe: Pipeline, clock: Clock) -> None:
    @router.get("/v1/models")
    def models() -> list[Json]:
        """The models that have logged, with the span of their logs and what is still due."""
        known = load_feed(pipe.store.state, pipe.feeds).models
        states = load_models(pipe, known.keys())
        return [
            {
                "model": name,
                "first": iso(m.first),
                "last": iso(m.last + m.base),
                "bucket_ms": m.base,
                "dirty": len(m.dirty),
                "history": len(m.history),
                "max_groups": states[name].settings.max_groups,
                "full_groups": full_dimensions(states[name].values, states[name].settings.max_groups),
            }
            for name, m in sorted(known.items())
        ]

    @router.get("/v1/labels/expired")
    def expired() -> list[Json]:
        """How many labels were given up because no prediction of theirs came, by the model that they name."""
        return [
            {"model": e.model or None, "labels": e.labels, "last": iso(e.last)}
            for e in expired_labels(pipe.store.state)
        ]

    @router.get("/v1/metrics/{model}")
    def metrics(
        model: str,
        metric: Annotated[list[str] | None, Query()] = None,
        window: str = "1d",
        start: Annotated[str | None, Query(alias="from")] = None,
        end: Annotated[str | None, Query(alias="to")] = None,
        by: Annotated[list[str] | None, Query()] = None,
    ) -> StreamingResponse:
        """The series over tumbling windows, one JSON object a line."""
        rows = metric_series(
            pipe,
            model,
            names=metric or (),
            width=parse_duration(window),
            start=parse_time(start) if start else None,
            end=parse_time(end) if end else None,
            by=by or (),
            now=clock(),
        )
        first = next(rows, None)  # errors must come before the answer begins

        def lines() -> Any:
            if first is not None:
                yield msgspec.json.encode(first) + b"\n"
            for row in rows:
                yield msgspec.json.encode(row) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @router.get("/v1/versions/{model}")
    def versions(
        model: str,
        metric: str,
        candidate: str,
        reference: str = OTHERS,
        margin: str = "0%",
        cls: Annotated[str | None, Query(alias="class")] = None,
        feature: str | None = None,
        start: Annotated[str | None, Query(alias="from")] = None,
        end: Annotated[str | None, Query(alias="to")] = None,
    ) -> Json:
        """One version against another."""
        return version_row(
            pipe,
            model,
            metric,
            candidate,
            reference,
            margin=margin,
            cls=cls,
            feature=feature,
            start=parse_time(start) if start else None,
            end=parse_time(end) if end else None,
            now=clock(),
        )

    @router.get("/v1/models/{model}/reliability")
    def reliability(
        model: str,
        start: Annotated[str | None, Query(alias="from")] = None,
        end: Annotated[str | None, Query(alias="to")] = None,
        by: Annotated[list[str] | None, Query()] = None,
        bins: Annotated[int, Query(ge=1, le=100)] = BINS,
    ) -> list[Json]:
        """The reliability curve over a span of time: mean score and observed rate by bin of the score."""
        return reliability_rows(
            pipe,
            model,
            start=parse_time(start) if start else None,
            end=parse_time(end) if end else None,
            by=by or (),
            bins=bins,
            now=clock(),
        )

    @router.get("/v1/models/{model}/examples")
    def flawed_examples(
        model: str,
        problem: str,
        start: Annotated[str, Query(alias="from")],
        to: str,
        limit: Annotated[int, Query(ge=0, le=1000)] = 20,
        feature: str | None = None,
        cell: str | None = None,
        group: Annotated[list[str] | None, Query()] = None,
    ) -> Json:
        """Rows behind a finding of data quality or drift, and the commonest values of the feature in them. Of
        no feature are the problems `duplicate` and `ahead`: some rows are shown whose ids gateways kept."""
        span = parse_time(start), parse_time(to)
        return examples_of(pipe, model, feature, problem, *span, limit, cell=cell, group=group or ())

    @router.get("/v1/rules/{rule}")
    def explain(rule: str, model: str | None = None) -> list[Json]:
        """One rule as it stands, a row for each model that it watches."""
        book = pipe.rules()
        if rule not in book.by_name:
            raise BadInput(f'there is no rule "{rule}"{did_you_mean(rule, list(book.by_name))}')
        return explain_rule(pipe, book.by_name[rule], clock(), model)

    @router.get("/v1/alerts")
    def alerts(every: bool = False) -> list[Json]:
        return alert_rows(pipe, every=every)

    @router.get("/v1/alerts/{alert}")
    def alert(alert: str) -> Json:
        """One alert with its history."""
        matching = [r for r in alert_rows(pipe, every=True) if r["id"].startswith(alert)]
        if len(matching) != 1:
            raise BadInput(f'{len(matching) or "no"} alerts begin with "{alert}" (see kedge alerts list)')
        return matching[0] | {"history": history_rows(pipe, matching[0]["id"])}

    @router.get("/v1/rejected")
    def rejected(limit: int = 20) -> list[Json]:
        """The newest rows that could not be stored, with their reasons."""
        return [
            {
                "at": iso(r.at),
                "model": r.model or None,
                "id": r.event or None,
                "reason": r.reason,
                "row": r.row,
            }
            for r in pipe.store.rejected(max(1, min(limit, 1000)))
        ]

    @router.get("/v1/examples/{model}")
    def examples(
        model: str, start: Annotated[str, Query(alias="from")], to: str, limit: int = 20
    ) -> list[Json]:
        """The newest logs of a window, as they are stored."""
        return pipe.store.examples(model, Window(parse_time(start), parse_time(to)), min(limit, 1000))


def _baselines(router: APIRouter, pipe: Pipeline, clock: Clock) -> None:
    @router.get("/v1/baselines/{model}")
    def listed(model: str) -> list[Json]:
        return list_baselines(pipe.store.state, model)

    @router.get("/v1/baselines/{model}/{baseline}")
    def shown(model: str, baseline: str) -> Json:
        return show_baseline(pipe.store.state, model, baseline)

    @router.post("/v1/baselines/{model}/window")
    def from_window(model: str, body: BaselineWindow) -> Json:
        """Make a baseline of the logs between two times, or of one version's."""
        known = model_feed(pipe, model)
        if body.version is None and (body.start is None or body.end is None):
            raise BadInput("a baseline is of a window (start and end), or of a version")
        start = parse_time(body.start) if body.start else known.first
        end = parse_time(body.end) if body.end else known.last + known.base
        window = Window(floor(start, known.base), ceil(end, known.base))
        if window.length <= 0:
            raise BadInput(f"the window ends ({body.end}) before it begins ({body.start})")
        logs = CappedLogs(pipe.store, settings_of(pipe, model).max_groups)
        source = f"window {iso(window.start)} to {iso(window.end)}"
        baseline = build_baseline(
            logs if body.version is None else VersionLogs(logs, body.version),
            model,
            window,
            features_of(pipe.store.state, model),
            groupings_of(pipe, pipe.rules(), model),
            source=source if body.version is None else f"version {body.version}, {source}",
            now=clock(),
        )
        return import_baseline(pipe.store.state, baseline, use=body.use)

    @router.post("/v1/baselines/{model}")
    async def from_content(model: str, request: Request) -> Json:
        """Store a baseline that the client computed from a file."""
        value = msgspec.json.decode(await request.body())
        if not isinstance(value, dict) or value.get("model") != model:
            raise BadInput(f"the baseline is not one of model {model}")
        return import_baseline(pipe.store.state, decode_baseline(value), use=True)

    @router.post("/v1/baselines/{model}/{baseline}/use")
    def use(model: str, baseline: str) -> Json:
        return {"model": model, "id": use_baseline(pipe.store.state, model, baseline)}

    @router.post("/v1/baselines/{model}/accept")
    def accept(model: str, body: Accept) -> Json:
        """Pin the baseline that is in use, or the one that is named: it is provisional no longer."""
        return {"model": model, "id": accept_baseline(pipe.store.state, model, body.id)}


def backtest_of(pipe: Pipeline, body: BacktestBody, now: Millis) -> Iterator[Json]:
    """Raises BadInput for rules that are wrong, and for a time without history, before anything is judged."""
    window = Window(parse_time(body.start), parse_time(body.end) if body.end else now)
    check_window(pipe, window)
    routing, whole = pipe.current_receivers().tree, pipe.rules()
    if body.files is not None:
        whole = parse_files(body.files).shared(routing, whole)
    book = _chosen(whole, body.rules)
    against = None
    if body.against is not None:
        against = _chosen(parse_files(body.against).shared(routing, whole), body.rules, some=True)
    return backtest(pipe, Asked(book, window, against))


def _chosen(book: RuleBook, names: Sequence[str], *, some: bool = False) -> RuleBook:
    """The rules of these names, all where none is named; `some`: those that there are."""
    book.raise_for_problems()
    if not some and (unknown := [name for name in names if name not in book.by_name]):
        raise BadInput(f'there is no rule "{unknown[0]}"{did_you_mean(unknown[0], list(book.by_name))}')
    return RuleBook(tuple(rule for rule in book.rules if rule.name in names)) if names else book


def tick_json(reports: list[TickReport]) -> Json:
    """Several ticks as one report."""
    last = reports[-1]
    return {
        "now": iso(last.now),
        "ticks": len(reports),
        "skipped": last.skipped,
        "buckets": sum(r.summaries.buckets for r in reports),
        "written": sum(r.summaries.written for r in reports),
        "left": last.summaries.left,
        "baselines": sorted({model for r in reports for model in r.baselines}),
        "labels_joined": sum(r.labels.joined for r in reports),
        "labels_waiting": last.labels.waiting,
        "labels_expired": sum(r.labels.expired for r in reports),
        "steps": sum(r.alerts.steps for r in reports),
        "transitions": sum(r.alerts.transitions for r in reports),
        "sent": sum(r.deliveries.sent for r in reports if r.deliveries),
        "problems": list(last.problems),
        "not_judged": list(last.alerts.held),
        "seconds": round(sum(r.seconds for r in reports), 3),
    }


def health(app: FastAPI, pipe: Pipeline, failure: Callable[[], str], *, store: bool = True) -> None:
    """`/healthz`: whether this process lives and, where it needs it (`store`), its store answers; no key
    needed."""

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        problem = failure()
        if store and not problem:
            check = pipe.store.ping()
            problem = "" if check.ok else check.detail
        body: dict[str, Any] = {"ok": not problem, "version": __version__, "store": pipe.settings.store_name}
        if problem:
            body["problem"] = problem
        return JSONResponse(body, 503 if problem else 200)
