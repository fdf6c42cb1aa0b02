"""Alerts on a terminal, or in a log file."""

import io

import pytest

from kedge.alerting.finding import Severity, Status
from kedge.notify.base import NotifyError
from kedge.notify.message import Links, compose
from kedge.notify.terminal import Terminal
from tests.notify.samples import transition


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(stream, **changes):
    Terminal(stream).send(compose(transition(**changes), links=Links()))
    return stream.getvalue()


def test_a_message_is_a_headline_and_a_few_indented_lines():
    headline, *lines = printed(io.StringIO()).splitlines()
    assert headline == "🔴 HIGH · fraud v7 · country=DE · recall fell"
    assert 2 <= len(lines) <= 6
    assert all(line.startswith("   ") for line in lines)
    assert lines[0].lstrip().startswith("0.71 (n=200;")
    assert lines[-1].endswith("rules/fraud.yml:12")


def test_colour_is_for_terminals_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in printed(Tty())
    assert "\x1b[" not in printed(io.StringIO())


def test_long_lines_are_not_wrapped_and_markup_is_text():
    text = printed(io.StringIO(), description="[bold]x[/bold] :smile: " + "word " * 60)
    assert "[bold]x[/bold] :smile: word" in text
    assert max(map(len, text.splitlines())) > 300


def test_data_cannot_steer_the_terminal():
    text = printed(Tty(), group={"segment.x": "\x1b]0;owned\x07\x1b[2J\u202eabc"}, description="\x9b2J")
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text


def test_resolved_and_no_data_read_as_such():
    assert printed(
        io.StringIO(), before=Status.FIRING, after=Status.RESOLVED, severity_before=Severity.HIGH
    ).startswith("🟢 RESOLVED")
    assert printed(io.StringIO(), after=Status.NO_DATA).startswith("⚪ NO DATA")


def test_a_closed_stream_is_a_permanent_failure():
    stream = io.StringIO()
    terminal = Terminal(stream)
    stream.close()
    with pytest.raises(NotifyError) as caught:
        terminal.send(compose(transition(), links=Links()))
    assert caught.value.permanent


def test_a_stream_of_another_encoding_gets_question_marks_for_what_it_lacks():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Terminal(stream).send(compose(transition(), links=Links()))
    stream.flush()
    assert b"? HIGH ? fraud v7" in raw.getvalue()
