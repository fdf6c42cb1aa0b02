"""`kedge init`, `kedge setup`, `kedge doctor`, `kedge key`."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kedge.cli.common import json_option, settings_from
from kedge.cli.output import json_line
from kedge.errors import KedgeError
from kedge.store.base import Check, Json
from kedge.windows import Millis

if TYPE_CHECKING:
    from kedge.pipeline.spooled import Gateway

STARTER = """\
# kedge's settings. Every line is optional; KEDGE_STORE and its like in the environment win over this file.

store: duckdb:kedge.duckdb          # or http://localhost:9200 (Elasticsearch or OpenSearch)
rules: rules                        # the folder of alert rules
# notify: notify.yml                # names the receivers; without it alerts go to Slack where SLACK_BOT_TOKEN
                                    # or SLACK_WEBHOOK_URL is set, else to the terminal
# every: 30s                        # how often the pipeline runs

# models:                           # a model needs no settings: it appears by logging
#   fraud:
#     positive_class: fraud         # precision, recall and F1 speak of this class
#     groups: [version, segment.region]
"""


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write a starter kedge.yml and the ready-made rules into FOLDER (default: here). Overwrites nothing.

    \b
    Example: kedge init && kedge rules check && kedge serve
    """
    from kedge.alerting.schema import schema_text
    from kedge.pipeline.compose import rules_folder

    def write(path: Path, text: str) -> None:
        if path.exists():
            click.echo(f"kept     {path}")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        click.echo(f"written  {path}")

    write(folder / "kedge.yml", STARTER)
    write(folder / "schema" / "rules.v1.json", schema_text())
    for source in sorted(rules_folder().glob("*.yml")):
        target = folder / "rules" / source.name
        if target.exists():
            click.echo(f"kept     {target}")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            click.echo(f"written  {target}")


def _print(checks: list[Check], as_json: bool) -> None:
    for check in checks:
        if as_json:
            json_line(
                {
                    "name": check.name,
                    "ok": check.ok,
                    "changed": check.changed,
                    "detail": check.detail,
                    "remedy": check.remedy,
                    "why": check.why,
                    "differences": list(check.differences),
                }
            )
            continue
        mark = "✗" if not check.ok else "+" if check.changed else "✓"
        click.echo(f"{mark} {check.name}: {check.detail}")
        if check.why:
            click.echo(f"    because {check.why}")
        for line in check.differences:
            click.echo(f"    {line}")
        if not check.ok and check.remedy:
            click.echo(f"  → {check.remedy}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@json_option
@click.pass_context
def setup(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Probe the store and install templates and policies; safe to repeat.

    Tells each choice with its reason, and what of each installed object changes.

    \b
    Example: KEDGE_STORE=http://localhost:9200 kedge setup --dry-run
    """
    from kedge.pipeline.compose import open_store

    settings = settings_from(ctx)
    store = open_store(settings, settings.make_clock())
    try:
        checks = store.setup(dry_run=dry_run)
    finally:
        store.close()
    _print(checks, as_json)
    if not as_json:
        changed = sum(c.changed for c in checks)
        would = "would be made" if dry_run else "made"
        click.echo(f"{changed} changes {would}" if changed else "nothing to change")
    # A source is for others to fill, perhaps not yet: `kedge doctor` is the one to insist.
    if not all(c.ok for c in checks if not c.name.startswith("source ")):
        sys.exit(1)


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check every connection, and say what to do about each failure.

    \b
    Example: kedge doctor
    """
    settings = settings_from(ctx)
    checks = [_server(ctx)] if settings.embedded else [_store(ctx), _redis(settings.redis)]
    if not settings.embedded:
        checks += _spools(ctx, reachable=checks[0].ok)
    checks += [*_sources(ctx), *_labels(ctx), *_groups(ctx), *_arrivals(ctx), _rules(ctx), _receivers(ctx)]
    _print(checks, as_json)
    if not all(c.ok for c in checks):
        sys.exit(1)


def _server(ctx: click.Context) -> Check:
    from kedge.cli.client import running_server

    settings = settings_from(ctx)
    url = running_server(settings)
    if url:
        return Check("server", True, f"answers on {url}, store {settings.store_name}")
    return _store(ctx)


def _store(ctx: click.Context) -> Check:
    from kedge.pipeline.compose import open_store

    settings = settings_from(ctx)
    try:
        store = open_store(settings, settings.make_clock())
    except KedgeError as e:
        return Check("store", False, str(e), "check KEDGE_STORE, and that the store runs")
    try:
        return store.ping()
    except KedgeError as e:
        return Check("store", False, str(e), "check KEDGE_STORE, and that the store runs")
    finally:
        store.close()


def _sources(ctx: click.Context) -> list[Check]:
    """A line for each source; none where the store itself cannot be reached."""
    from kedge.pipeline.compose import open_store

    settings = settings_from(ctx)
    if not settings.sources:
        return []
    try:
        store = open_store(settings, settings.make_clock())
    except KedgeError:
        return []
    try:
        return store.sources()
    except KedgeError as e:
        return [Check("sources", False, str(e), "check that the key may read these indices")]
    finally:
        store.close()


def _labels(ctx: click.Context) -> list[Check]:
    """Labels that were given up; none where the store itself cannot be reached, or is not set up."""
    from kedge.cli.client import connect
    from kedge.windows import DAY, parse_time

    settings = settings_from(ctx)
    try:
        with connect(settings) as client:
            rows = client.get("/v1/labels/expired")
    except KedgeError:
        return []
    if not rows:
        return [Check("labels", True, "none was given up")]
    total, last = sum(row["labels"] for row in rows), max(row["last"] for row in rows)
    most = sorted(rows, key=lambda row: -row["labels"])[:3]
    named = ", ".join(f"{row['labels']:,} of {row['model'] or 'no model named'}" for row in most)
    recent = parse_time(last) > settings.make_clock()() - DAY
    detail = f"{total:,} were given up because their prediction never came ({named}), the last at {last}"
    remedy = "GET /v1/rejected shows them: do their ids match those of the predictions? See labels.expire"
    return [Check("labels", not recent, detail, remedy)]


def _groups(ctx: click.Context) -> list[Check]:
    """Dimensions with more values than have groups; none where the store itself cannot be reached."""
    from kedge.cli.client import connect

    try:
        with connect(settings_from(ctx)) as client:
            models = client.get("/v1/models")
    except KedgeError:
        return []
    return [groups_check(models)] if models else []


def groups_check(models: Sequence[Json]) -> Check:
    """What there is to tell of groups that are folded. No fault by itself: somebody may have meant it."""
    full = [(model["model"], name) for model in models for name in model["full_groups"]]
    if not full:
        return Check("groups", True, "no dimension has as many values as max_groups allows")
    named = ", ".join(f"{name} of {model}" for model, name in full[:3])
    more = f" and {len(full) - 3} more" if len(full) > 3 else ""
    full_up = f"{named}{more}: as many values as max_groups allows, so further ones are counted as (other)"
    remedy = "raise max_groups of the model, or group by something with fewer values"
    return Check("groups", True, f"{full_up}; {remedy}")


def _arrivals(ctx: click.Context) -> list[Check]:
    """Rows of wrong clocks and rows sent twice, as a running server counted them; none where none runs."""
    from kedge.cli.client import connect, running_server

    settings = settings_from(ctx)
    if not running_server(settings):
        return []
    try:
        with connect(settings) as client:
            arrived = client.get("/v1/status")["arrived"]
    except KedgeError:
        return []
    return [arrivals_check(arrived)]


def arrivals_check(arrived: Json) -> Check:
    """What there is to tell of what arrived since the start."""
    taken = f"{arrived['rows']:,} rows since the start, {arrived['duplicate']:,} of them stored before"
    if not arrived["ahead"]:
        return Check("arrivals", True, f"{taken}, none ahead of its arrival")
    models = sorted(arrived["models"].items(), key=lambda item: -item[1]["ahead"])
    named = ", ".join(name for name, counts in models[:3] if counts["ahead"])
    ahead = (
        f"{arrived['ahead']:,} ahead of their arrival by up to {arrived['ahead_ms'] / 1000:,.0f} s ({named})"
    )
    return Check(
        "arrivals", False, f"{taken}, {ahead}", "set the clocks of the services that log these models"
    )


def _spools(ctx: click.Context, *, reachable: bool) -> list[Check]:
    """The spool of this folder, and what every gateway told the store of its own."""
    from ingest.spool import SpoolBroken, read_depth
    from kedge.clock import system_clock
    from kedge.pipeline.compose import open_store
    from kedge.pipeline.spooled import gateways

    settings = settings_from(ctx)
    try:
        depth = read_depth(settings.spool)
    except SpoolBroken as error:
        return [Check("spool", False, str(error), "look at the file, or move it away")]
    checks = []
    if depth is not None:
        detail = f"{depth.rows:,} rows ({depth.bytes:,} bytes) wait in {settings.spool}"
        remedy = "they are written once the store answers and the gateway runs"
        checks.append(Check("spool", depth.rows == 0, detail, remedy))
    if not reachable:
        return checks
    store = open_store(settings, settings.make_clock())
    try:
        said = gateways(store.state)
    except KedgeError as error:
        return [*checks, Check("gateways", False, str(error), "run kedge setup")]
    finally:
        store.close()
    return [*checks, gateways_check(said, system_clock())]


def gateways_check(said: "Sequence[Gateway]", now: Millis) -> Check:
    """What there is to tell of what gateways told of themselves."""
    from kedge.pipeline.spooled import silent_holders, silent_others

    lost, others = silent_holders(said, now), silent_others(said, now)
    rows = sum(gateway.rows for gateway in said)
    detail = f"{len(said)} have told of themselves, {rows:,} rows wait in their spools"
    if lost:
        names = ", ".join(gateway.name for gateway in lost)
        detail += f"; silent for 15 minutes, with rows: {names}"
    if others:  # no fault by itself: who was killed and is gone for good stays in the list
        names = ", ".join(gateway.name for gateway in others)
        detail += f"; silent for 15 minutes, so killed, or cut off and spooling: {names}"
    remedy = "start those gateways again on their spools: windows are judged without these rows"
    return Check("gateways", not lost, detail, remedy)


def _redis(url: str) -> Check:
    import redis

    shown = url.rpartition("@")[2] if "@" in url else url
    try:
        redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5).ping()
    except (redis.RedisError, ValueError) as e:
        return Check(
            "redis", False, f"{shown}: {type(e).__name__}", "start Redis, or set KEDGE_REDIS to where it runs"
        )
    return Check("redis", True, f"answers on {shown}")


def _rules(ctx: click.Context) -> Check:
    from kedge.alerting.loading import load_rules

    folder = settings_from(ctx).rules
    if not folder.exists():
        return Check("rules", False, f"there is no folder {folder}", "kedge init writes the ready-made rules")
    book = load_rules([folder])
    if book.problems:
        return Check(
            "rules",
            False,
            "; ".join(map(str, book.problems[:3])),
            "kedge rules check lists every problem; "
            "until then the last good version of each file stays in force",
        )
    return Check("rules", True, f"{len(book.rules)} rules in {folder}")


def _receivers(ctx: click.Context) -> Check:
    import os

    from kedge.notify.receivers import load_receivers

    settings = settings_from(ctx)
    try:
        receivers = load_receivers(settings.notify if settings.notify.exists() else None, os.environ)
    except KedgeError as e:
        return Check(
            "receivers",
            False,
            str(e),
            f"mend {settings.notify}; until then its last good version stays in force",
        )
    known = f"default {receivers.default}; known: {', '.join(sorted(receivers.known))}"
    if receivers.routing is not None:
        known += f"; {len(list(receivers.routing.keys()))} routes"
    return Check("receivers", True, known)


@click.command()
@json_option
def key(as_json: bool) -> None:
    """Make an API key: give the key to the client, and its hash to the gateway.

    \b
    Example: kedge key
    """
    from ingest.auth import new_key

    plain, hashed = new_key()
    if as_json:
        json_line({"key": plain, "hash": hashed})
        return
    click.echo(f"key   {plain}\nhash  {hashed}\n")
    click.echo(
        "The key is shown once: clients send it as Authorization: Bearer KEY, kedge itself as KEDGE_API_KEY."
    )
    click.echo("Put the hash into keys: [...] of kedge.yml, or into KEDGE_KEYS.")
