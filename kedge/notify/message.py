"""From a transition to the message that people read (DESIGN §11). Pure: no receiver's markup, no clock."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kedge.alerting.finding import Ends, Finding, Flaps, Severity, State, Status, Transition
from kedge.alerting.quantity import is_open
from kedge.notify import formatting
from kedge.notify.base import Link, Message
from kedge.windows import DAY, iso

_LOOKS: dict[Severity, tuple[str, str]] = {
    Severity.CRITICAL: ("🚨", "#8f1d14"),
    Severity.HIGH: ("🔴", "#d92d20"),
    Severity.MEDIUM: ("🟠", "#f08c00"),
    Severity.LOW: ("🟡", "#e6c200"),
    Severity.INFO: ("🔵", "#2e90fa"),
}
_STATUS_LOOKS: dict[Status, tuple[str, str]] = {
    Status.RESOLVED: ("🟢", "#12a150"),
    Status.INACTIVE: ("🟢", "#12a150"),
    Status.NO_DATA: ("⚪", "#98a2b3"),
    Status.PENDING: ("⚪", "#98a2b3"),
    Status.ACKNOWLEDGED: ("👀", "#667085"),
}
_STATUS_WORDS: dict[Status, str] = {
    Status.RESOLVED: "RESOLVED",
    Status.INACTIVE: "RESOLVED",
    Status.NO_DATA: "NO DATA",
    Status.PENDING: "PENDING",
    Status.ACKNOWLEDGED: "ACKNOWLEDGED",
}
_LIVE = (Status.FIRING, Status.ACKNOWLEDGED)
_BROKEN = (*_LIVE, Status.PENDING)
"""Something is wrong: its causes are told, and rows to look at."""
MOST_CAUSES = 3
MAX_CAUSE = 160
"""Characters: values of groups may be of any length, and the lines below must fit too."""
_KIBANA_FIELDS = {"version": "model.version", "service": "service.name", "host": "host.name"}
DASHBOARD, ROWS = "Dashboard", "Example rows"
_BREAKS = re.compile(r"[ \t\r\n\v\f\x85\u2028\u2029]+")
_RISON_SAFE = "()!,:'"


@dataclass(frozen=True)
class Links:
    """Where messages point: base URLs without a trailing slash, empty where there is no such place."""

    dashboard: str = ""
    kibana: str = ""

    def of(self, transition: Transition) -> tuple[Link, ...]:
        """Logs in Kibana, the rows behind a fault, the alert on the dashboard, the rule's runbook; each only
        as http or https."""
        links = (
            Link("Logs", self._logs(transition) if self.kibana else ""),
            Link(ROWS, self._rows(transition) if self.dashboard else ""),
            Link(DASHBOARD, f"{self.dashboard.rstrip('/')}/alerts/{quote(transition.alert, safe='')}"),
            Link("Runbook", transition.runbook),
        )
        return tuple(link for link in links if _is_web(link.url))

    def _rows(self, transition: Transition) -> str:
        """The rows of the finding's window and group in which its feature is as it should not be."""
        finding = transition.finding
        start, end = finding.window
        if not finding.rows or end <= start or transition.after not in _BROKEN:
            return ""
        groups = {name: value for name, value in transition.group.items() if name != "feature"}
        if transition.version:
            groups["version"] = transition.version
        asked = [*finding.rows.items(), ("from", iso(start)), ("to", iso(end))]
        asked += [("group", f"{name}={value}") for name, value in groups.items()]
        base = f"{self.dashboard.rstrip('/')}/models/{quote(transition.model, safe='')}/examples"
        return f"{base}?{urlencode(asked, quote_via=quote)}"

    def _logs(self, transition: Transition) -> str:
        """Kibana's Discover over the window, filtered to the model, version and group."""
        wanted = {"model.name": transition.model}
        if transition.version:
            wanted["model.version"] = transition.version
        wanted |= {_KIBANA_FIELDS.get(name, name): value for name, value in transition.group.items()}
        query = " and ".join(f"{name}:{_kql(value)}" for name, value in wanted.items())
        start, end = transition.finding.window
        if end <= start:
            start, end = transition.step - DAY, transition.step
        time = f"(time:(from:{_rison(iso(start))},to:{_rison(iso(end))}))"
        return (
            f"{self.kibana.rstrip('/')}/app/discover#/?_g={quote(time, safe=_RISON_SAFE)}"
            f"&_a={quote(f'(query:(language:kuery,query:{_rison(query)}))', safe=_RISON_SAFE)}"
        )


def compose(transition: Transition, *, links: Links) -> Message:
    """The message that tells of `transition`, for any change of an alert that the fold can decide.

    Numbers keep their unit and as many digits as tell them apart; times are UTC. Texts are the rule's and the
    data's own, unescaped: escaping is each receiver's business.
    """
    by_severity = transition.after is Status.FIRING or _moved(transition)
    emoji, colour = _LOOKS[transition.severity] if by_severity else _STATUS_LOOKS[transition.after]
    started = transition.started if transition.started is not None else transition.step
    incident = transition.incident if transition.incident is not None else started
    return Message(
        transition=transition.id,
        incident=f"{transition.alert}:{incident}",
        status=transition.after,
        severity=transition.severity,
        headline=_headline(transition),
        lines=tuple(_lines(transition)),
        fields=tuple(_fields(transition)),
        links=links.of(transition),
        footer=transition.place,
        colour=colour,
        emoji=emoji,
        broadcast=_concerns_everyone(transition),
    )


def _continues(transition: Transition) -> bool:
    """It was live and still is: another severity, an acknowledgement, or data is back."""
    return transition.after in _LIVE and transition.before in (*_LIVE, Status.NO_DATA)


def _moved(transition: Transition) -> bool:
    """Its severity changed while it fired."""
    return _continues(transition) and transition.severity_before not in (None, transition.severity)


def _concerns_everyone(transition: Transition) -> bool:
    """All but easing and acknowledging; easing to info does too: receivers hear no more of it."""
    if transition.flaps is not None:
        return True
    if not _continues(transition):
        return True
    before = transition.severity_before or transition.severity
    return transition.severity > before or (
        transition.severity < before and transition.severity is Severity.INFO
    )


# --- the parts of a message ---------------------------------------------------------------------------------


def _headline(transition: Transition) -> str:
    """`HIGH · fraud v7 · country=DE · recall fell`."""
    if transition.after is Status.FIRING or _moved(transition):
        word = transition.severity.word.upper()
        if _moved(transition) and transition.severity_before is not None:
            word += f" (was {transition.severity_before.word.upper()})"
    else:
        word = _STATUS_WORDS[transition.after]
        if transition.ends is Ends.DISPROVED:
            word += " (DISPROVED)"
    if transition.flaps is Flaps.BEGINS:
        word += ", FLAPPING"
    elif transition.flaps is Flaps.STEADY:
        word += ", STEADY AGAIN"
    # In the group where a rule splits by it.
    version = transition.version or transition.group.get("version", "")
    if version[:1].isdigit():
        version = f"v{version}"
    group = ", ".join(
        f"{name.removeprefix('segment.')}={value}"
        for name, value in transition.group.items()
        if name != "version"
    )
    subject = " ".join(part for part in (transition.model, version) if part)
    rule = transition.rule.replace("-", " ").replace("_", " ")
    return " · ".join(_flat(part) for part in (word, subject, group, rule) if part)


def _lines(transition: Transition) -> Iterator[str]:
    finding = transition.finding
    # The finding's reason says the same numbers in a sentence: it is for lists and logs.
    if seen := _seen(finding) or finding.reason:
        yield _flat(seen)
    if transition.reason and not _speaks_for_itself(transition):
        yield _flat(transition.reason)
    if transition.after in _BROKEN:
        if finding.causes:
            causes = "; ".join(_cause(cause) for cause in finding.causes[:MOST_CAUSES])
            more = len(finding.causes) - MOST_CAUSES
            yield _flat(f"Moves with it: {causes}" + (f"; {more} more" if more > 0 else ""))
        if finding.normal:
            yield _flat(f"Normal: {', '.join(finding.normal)}")
        if finding.clears:
            yield _flat(f"Clears: {finding.clears}")
    if transition.description:
        yield _flat(transition.description)


def _speaks_for_itself(transition: Transition) -> bool:
    """The headline and the facts say why: it breached, moved to another severity, or came back."""
    if transition.ends is not None or transition.late or transition.flaps is not None:
        return False
    if transition.after is Status.RESOLVED:
        return transition.finding.state is not State.BREACH  # else somebody resolved it by hand
    again = transition.severity_before is transition.severity  # its composite is over
    return transition.after is Status.FIRING and transition.before is not Status.NO_DATA and not again


def _seen(finding: Finding) -> str:
    """`0.71 (n=200; 95 %: 0.64–0.77), was 0.84 (n=910): −15 % (limit −10 %)`; empty without a value."""
    if finding.value is None:
        return ""
    usual = finding.usual or ()
    show = formatting.notation(finding.unit, finding.value, finding.bound, finding.reference, *usual)
    basis = [f"n={formatting.count(finding.n)}"]
    if finding.interval is not None and finding.interval[0] != finding.interval[1]:
        low, high = finding.interval
        ends = f"{show(low)} or more" if is_open(finding.unit, high) else f"{show(low)}–{show(high)}"
        basis.append(f"95{formatting.THIN}%: {ends}")
    if finding.part:
        basis.append(finding.part)
    text = f"{show(finding.value)} ({'; '.join(basis)})"
    if finding.reference is not None:
        text += f", was {show(finding.reference)}"
        if finding.reference_n is not None:
            text += f" (n={formatting.count(finding.reference_n)})"
    if finding.usual is not None:
        text += f", usual {show(finding.usual[0])}–{show(finding.usual[1])}"
    if finding.change:
        text += f": {finding.change}"
    if finding.bound is not None and "limit" not in finding.change:
        text += f", limit {show(finding.bound)}"
    return text


def _cause(cause: dict[str, Any]) -> str:
    text = _cause_text(cause)
    return text if len(text) <= MAX_CAUSE else text[: MAX_CAUSE - 1].rstrip() + "…"


def _cause_text(cause: dict[str, Any]) -> str:
    """`merchant_type 9 % never seen (usual 0 %)`: name and words where the rule gives any, else the size."""
    name = str(cause.get("feature") or cause.get("name") or cause.get("rule") or "")
    if text := cause.get("text") or cause.get("reason"):
        return f"{name} {text}".strip()
    effect = cause.get("effect")
    if isinstance(effect, int | float):
        return f"{name} (effect {formatting.notation('', effect)(effect)})"
    return name


def _fields(transition: Transition) -> Iterator[tuple[str, str]]:
    finding, near = transition.finding, transition.decided
    start, end = finding.window
    if end > start:
        yield "Window", formatting.window(start, end, near)
    if transition.started is not None and transition.started < transition.step:
        name = "Breaching since" if transition.after in _LIVE else "Began"
        yield name, formatting.moment(transition.started, near)
    if transition.after is Status.FIRING and not _continues(transition):
        yield "Firing since", formatting.moment(transition.step, near)
    elif _continues(transition) and transition.before is Status.NO_DATA:
        yield "Data back", formatting.moment(transition.step, near)
    elif transition.after in (Status.RESOLVED, Status.INACTIVE):
        yield "Resolved", formatting.moment(transition.step, near)
        if transition.started is not None:
            yield "Lasted", formatting.length(transition.step - transition.started)
    else:
        yield "Since", formatting.moment(transition.step, near)


# --- small things -------------------------------------------------------------------------------------------


def _flat(text: str) -> str:
    """On one line: texts from rules and data may hold line breaks. Thin spaces are meant and stay."""
    return _BREAKS.sub(" ", text).strip()


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not any(c.isspace() for c in url)


def _kql(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _rison(text: str) -> str:
    """A string in Rison, Kibana's notation of state in URLs: quoted, with ! as the escape."""
    return "'" + text.replace("!", "!!").replace("'", "!'") + "'"
