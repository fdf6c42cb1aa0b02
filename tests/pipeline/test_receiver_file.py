"""notify.yml takes effect while kedge runs; a broken one keeps its last good version, and is told of."""

import os
import secrets
from pathlib import Path

import pytest
from click.testing import CliRunner

from kedge.alerting.finding import Status
from kedge.alerting.loading import parse_rules
from kedge.cli import cli
from kedge.config import Settings
from kedge.errors import BadInput
from kedge.notify.message import Links
from kedge.notify.receivers import Receivers
from kedge.pipeline.compose import open_pipeline
from kedge.pipeline.receiver_file import ReceiverSource
from kedge.store.base import Store
from kedge.store.duckdb import open_duckdb
from kedge.store.elastic import open_elastic
from kedge.web.own import OwnCollector, Sources
from kedge.windows import MINUTE
from tests.pipeline.world import T0, Notebook, World, prediction, world, world_on

RULES = """
version: 1
defaults: {model: "*", window: 1m}
rules:
- {name: busy, metric: volume.count, above: 2, evidence: point, notify: pager}
"""
PLAIN = "default: team\nreceivers: {team: {terminal: {}}, pager: {terminal: {}}}\n"
TEAM = "default: team\nreceivers: {team: {terminal: {}}}\n"
ROUTED = PLAIN + "route: {receiver: team, group_wait: 0s}\n"
BAD = PLAIN.replace("default: team", "default: taem")
REASON = '1:1: default: no receiver "taem" (there are: pager, team)'


class Channels:
    """A notebook for each receiver, which outlives the readings of the file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, Notebook] = {}
        original = ReceiverSource.__call__

        def call(source: ReceiverSource) -> Receivers:
            read = original(source)
            for name in read.known:
                read.notifiers[name] = self.of.setdefault(name, Notebook())  # type: ignore[index]
            return read

        monkeypatch.setattr(ReceiverSource, "__call__", call)

    def told(self) -> dict[str, list[str]]:
        return {name: [m.headline for m in book.messages] for name, book in self.of.items() if book.messages}


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> Channels:
    return Channels(monkeypatch)


@pytest.fixture
def one():
    with world(book=parse_rules(RULES)) as made:
        yield made


def starts(one: World, path: Path) -> ReceiverSource:
    """A worker that starts now."""
    one.restart()
    source = ReceiverSource(path, {}, Links(), one.store.state)
    one.pipe.receivers, one.pipe.receiver_source = source(), source
    return source


def minute(one: World, m: int, *, busy: bool = True) -> None:
    at = T0 + m * MINUTE
    one.send([prediction(m * 100 + i, at + i * 1000) for i in range(5 if busy else 1)])
    one.drain(at + 2 * MINUTE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "notify.yml"
    path.write_text(PLAIN)
    return path


def test_a_saved_file_takes_effect_at_the_next_tick(one: World, path: Path, channels: Channels) -> None:
    starts(one, path)
    minute(one, 0)
    assert channels.told() == {"pager": ["MEDIUM · fraud · busy"]}
    path.write_text(TEAM)
    minute(one, 1, busy=False)
    assert channels.told()["team"] == ["RESOLVED · fraud · busy"]
    path.write_text(ROUTED)
    minute(one, 2)
    assert channels.told()["pager"][1:] == ["MEDIUM · fraud · busy"]


def test_a_broken_file_keeps_its_last_good_version_which_is_told_of_it(
    one: World, path: Path, channels: Channels
) -> None:
    starts(one, path)
    minute(one, 0)
    path.write_text(BAD)
    minute(one, 1, busy=False)
    assert channels.told()["pager"] == ["MEDIUM · fraud · busy", "RESOLVED · fraud · busy"]
    (broken,) = channels.of["team"].messages
    assert broken.headline == f"HIGH · kedge · file={path} · kedge.notify broken"
    assert f"{REASON}; its last good version stays in force" in broken.lines
    assert broken.footer == f"{path}:1:1"
    assert one.alert("kedge.notify-broken", file=str(path)).status is Status.FIRING
    path.write_text(PLAIN + "# mended\n")
    minute(one, 2)
    assert channels.told()["team"][1:] == [f"RESOLVED · kedge · file={path} · kedge.notify broken"]
    assert one.pipe.receivers.problems == ()


def test_a_worker_that_starts_while_the_file_is_broken_goes_on_with_its_last_good_version(
    one: World, path: Path, channels: Channels
) -> None:
    starts(one, path)
    minute(one, 0)
    path.write_text("receivers: [")
    for m in (1, 2):
        starts(one, path)
        minute(one, m)
    assert one.pipe.receivers.known == {"team", "pager"}
    assert [headline.split()[0] for headline in channels.told()["team"]] == ["HIGH"], "told once"


def test_a_worker_does_not_start_where_the_file_never_was_good(one: World, path: Path) -> None:
    path.write_text(BAD)
    with pytest.raises(BadInput, match="taem"):
        starts(one, path)


@pytest.mark.parametrize("where", ["duckdb", "elasticsearch", "opensearch"])
def test_a_store_that_was_never_set_up_hides_no_mistake(
    where: str, request: pytest.FixtureRequest, path: Path
) -> None:
    path.write_text(BAD)
    store: Store
    if where == "duckdb":
        store = open_duckdb(":memory:")
    else:
        url = request.getfixturevalue(f"{where}_url")
        store = open_elastic(url, prefix=f"kedge-never-{secrets.token_hex(5)}", clock=lambda: T0)
    try:
        with pytest.raises(BadInput, match="taem"):
            ReceiverSource(path, {}, Links(), store.state)()
    finally:
        store.close()


@pytest.mark.parametrize("where", ["elasticsearch", "opensearch"])
def test_on_a_server_a_broken_file_keeps_its_last_good_version_over_restarts_too(
    where: str, request: pytest.FixtureRequest, path: Path
) -> None:
    with world_on(request, where, book=parse_rules(RULES)) as one:
        starts(one, path)
        one.tick(T0)
        path.write_text(BAD)
        starts(one, path)
        one.tick(T0 + MINUTE)
        assert one.pipe.receivers.known == {"team", "pager"}
        assert one.alert("kedge.notify-broken", file=str(path)).status is Status.FIRING


def test_a_variable_that_is_not_set_is_a_mistake_like_another(one: World, path: Path) -> None:
    source = starts(one, path)
    path.write_text("receivers: {team: {slack: {channel: '#ml'}}}\n")
    assert source().known == {"team", "pager"}
    (problem,) = source().problems
    assert str(problem) == (
        f'{path}:1:20: receiver "team": the environment variable SLACK_BOT_TOKEN is not set'
    )


def test_a_file_that_vanishes_while_kedge_runs_stays_in_force_and_one_that_comes_is_read(
    one: World, path: Path
) -> None:
    source = starts(one, path)
    path.unlink()
    assert source().known == {"team", "pager"}
    assert "there is no such file any more" in source().problems[0].text
    source = starts(one, path)
    assert (source().known, source().problems) == ({"terminal"}, ()), "started without it: a decision"
    path.write_text(TEAM)
    assert source().known == {"team"}


def test_a_folder_that_is_not_there_is_no_decision_either(one: World, tmp_path: Path) -> None:
    path = tmp_path / "mounted" / "notify.yml"
    path.parent.mkdir()
    path.write_text(PLAIN)
    starts(one, path)
    minute(one, 0)
    path.unlink()
    path.parent.rmdir()
    source = starts(one, path)
    assert source().known == {"team", "pager"}
    assert source().problems[0].text == f"there is no folder {path.parent} any more"


def test_a_file_put_in_place_of_another_of_its_age_and_size_is_read(one: World, path: Path) -> None:
    source = starts(one, path)
    other = path.with_name("other.yml")
    other.write_text(PLAIN.replace("pager", "pages"))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert source().known == {"team", "pages"}


def test_only_what_is_good_is_kept_and_no_secret_with_it(one: World, path: Path) -> None:
    starts(one, path)
    minute(one, 0)
    path.write_text(BAD)
    minute(one, 1)
    ((_, kept),) = one.store.state.find("notify-kept:").items()
    assert kept.value == {"text": PLAIN}


def test_a_pipeline_reads_the_file_that_its_settings_name(tmp_path: Path, path: Path) -> None:
    settings = Settings.model_validate({"store": "duckdb::memory:", "notify": str(path)})
    pipe = open_pipeline(settings, lambda: T0)
    pipe.store.setup()
    try:
        path.write_text(TEAM)
        assert pipe.current_receivers().known == {"team"}
    finally:
        pipe.store.close()


def test_metrics_show_a_broken_file_while_it_is_broken(one: World, path: Path) -> None:
    def scraped() -> dict[str, list[tuple[dict[str, str], float]]]:
        found = OwnCollector(Sources(one.pipe, lambda: one.now)).collect()
        return {m.name: [(s.labels, s.value) for s in m.samples] for m in found}

    starts(one, path)
    assert scraped()["kedge_notify_problems"] == [({}, 0)]
    path.write_text(BAD)
    broken = scraped()
    assert broken["kedge_notify_problems"] == [({}, 1)]
    assert broken["kedge_notify_file_broken"] == [({"file": str(path)}, 1)]
    path.write_text(PLAIN + "# mended\n")
    assert "kedge_notify_file_broken" not in scraped()


def test_the_doctor_shows_what_is_wrong_and_what_is_in_force(tmp_path: Path, path: Path) -> None:
    path.write_text(BAD)
    env = {"KEDGE_STORE": f"duckdb:{tmp_path}/kedge.duckdb", "KEDGE_NOTIFY": str(path)}
    said = CliRunner().invoke(cli, ["doctor"], env=env).output
    assert f"{path}:{REASON}" in said
    assert "last good version stays in force" in said
