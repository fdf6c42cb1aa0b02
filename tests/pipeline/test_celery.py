"""The Celery shell around the tick: what it refuses, what it is set to, which settings its task goes by."""

import logging

import pytest

from kedge.config import Settings
from kedge.errors import KedgeError, StoreUnavailable
from workers import celery_app
from workers.celery_app import HARD_LIMIT_S, SOFT_LIMIT_S, TICK, VISIBILITY_S, make_app

CLUSTER = Settings.model_validate({"store": "http://cluster:9200", "prefix": "one", "every": "20s"})


def test_a_duckdb_file_is_refused_in_one_sentence() -> None:
    with pytest.raises(KedgeError, match="one process alone can open: run kedge serve") as refused:
        make_app(Settings.model_validate({"store": "duckdb:kedge.duckdb"}))
    assert "\n" not in str(refused.value)


def test_a_message_outlives_neither_its_interval_nor_its_task_the_visibility_time() -> None:
    conf = make_app(CLUSTER).conf
    assert conf.beat_schedule["tick"]["options"]["expires"] == conf.beat_schedule["tick"]["schedule"] == 20
    assert SOFT_LIMIT_S < HARD_LIMIT_S < VISIBILITY_S == conf.broker_transport_options["visibility_timeout"]
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.task_ignore_result) == (True, 1, True)
    assert conf.task_default_queue == "one-ticks"


def test_the_task_goes_by_the_settings_of_its_application(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`kedge --config other.yml worker`: not by what another kedge.yml or the environment says."""
    asked: list[str] = []

    def opened(settings: Settings, clock: object) -> None:
        asked.append(settings.prefix)
        raise StoreUnavailable("the cluster does not answer")

    monkeypatch.setenv("KEDGE_PREFIX", "other")
    monkeypatch.setattr(celery_app, "open_pipeline", opened)
    with caplog.at_level(logging.WARNING, "kedge.worker"):
        make_app(CLUSTER).tasks[TICK]()
    assert asked == ["one"]
    assert "tick put off: the cluster does not answer" in caplog.text
