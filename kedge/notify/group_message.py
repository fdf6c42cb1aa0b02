"""From a notification to its message: of one alert today's, of several one with a line an alert. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from kedge.alerting.finding import Status, Transition
from kedge.alerting.grouping import Notification, Reason
from kedge.notify.base import Link, Message
from kedge.notify.message import DASHBOARD, ROWS, Links, compose

_NOTICES: Mapping[Reason, str] = {
    Reason.REPEAT: "It still fires: nothing has changed since the last message",
    Reason.ESCALATED: "Nobody has acknowledged it: escalated",
}
MAX_LINE = 140
"""Characters of an alert's line: twenty of them fit into one section of Slack's."""


def compose_group(told: Notification, *, links: Links, part: bool = False) -> Message:
    """The message of a notification. `part`: it is of one alert, in the thread of its group's message."""
    transitions = (*told.firing, *told.resolved)
    if len(transitions) + told.unshown == 1:
        return _single(transitions[0], told, links, part)
    composed = [(t, compose(t, links=links)) for t in transitions]
    worst = composed[0][1]
    return replace(
        worst,
        transition=told.id,
        incident=told.incident,
        status=Status.FIRING if told.firing else Status.RESOLVED,
        headline=_headline(told),
        lines=tuple(_lines(told, composed)),
        fields=(("Group", _named(told)),) if told.labels else (),
        links=(),
        alerts=tuple((_name(message), _ways(message)) for _, message in composed if message.links),
        footer="",
        broadcast=True,
    )


def _single(transition: Transition, told: Notification, links: Links, part: bool) -> Message:
    """As without groups, and why it comes again."""
    message = compose(transition, links=links)
    notice = _NOTICES.get(told.reason) if told.firing and not part else None
    again = told.reason in _NOTICES and not part
    return replace(
        message,
        transition=f"{told.id}:{transition.alert}" if part else told.id,
        incident=told.incident,
        lines=(*message.lines, notice) if notice else message.lines,
        # In the thread of a group its message speaks to everybody, and those of its alerts to who looks
        # closer.
        broadcast=not part and (message.broadcast or again),
    )


def _name(message: Message) -> str:
    """`fraud v7 · country=DE · recall fell`: the headline without its severity, which its line has."""
    return message.headline.partition(" · ")[2] or message.headline


def _ways(message: Message) -> tuple[Link, ...]:
    """To the alert itself, or what there is instead, and to its example rows: of many alerts more is a wall.
    What is new has all of its links in the thread."""
    rows = [link for link in message.links if link.text == ROWS]
    others = sorted((link for link in message.links if link not in rows), key=lambda k: k.text != DASHBOARD)
    return (*others[:1], *rows)


def _headline(told: Notification) -> str:
    """`HIGH · 3 firing, 1 resolved · fraud · new: drifted`."""
    counts = [f"{len(told.firing)} firing"] if told.firing else []
    counts += [f"{len(told.resolved)} resolved"] if told.resolved else []
    if told.unshown:
        counts.append(f"{told.unshown} more")
    word = told.firing[0].severity.word.upper() if told.firing else "RESOLVED"
    return " · ".join(part for part in (word, ", ".join(counts), _subject(told)) if part)


def _subject(told: Notification) -> str:
    """What the alerts have in common: the group's labels, else the one model or rule that all are of."""
    if told.labels:
        return _named(told)
    both = (*told.firing, *told.resolved)
    for names in (Counter(t.model for t in both), Counter(t.rule for t in both)):
        if len(names) == 1:
            return next(iter(names))
    return ""


def _named(told: Notification) -> str:
    return ", ".join(f"{name.removeprefix('segment.')}={value}" for name, value in told.labels.items())


def _lines(told: Notification, composed: list[tuple[Transition, Message]]) -> Iterator[str]:
    if told.reason in _NOTICES:
        yield _NOTICES[told.reason]
    for transition, message in composed:
        # What is new is told in full in the thread; here its first line says what was seen.
        seen = f": {message.lines[0]}" if message.lines else ""
        mark = "" if transition.alert in told.changed else " (as before)"
        line = f"{message.emoji} {message.headline}{mark}{seen}".strip()
        yield line if len(line) <= MAX_LINE else line[: MAX_LINE - 1].rstrip() + "…"
    if told.unshown:
        yield f"… and {told.unshown} more"
