"""Playing a test: the real judging at every interval, and what is expected held against what came."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from kedge.alerting.fields import did_you_mean
from kedge.alerting.finding import AlertState, Severity, Status, Transition
from kedge.alerting.lifecycle import ACTIVE, QUIET, acknowledge, alert_id
from kedge.alerting.loading import RuleBook
from kedge.alerting.matchers import describe, matches, parse_match, state_labels
from kedge.alerting.silences import Silence
from kedge.errors import BadInput
from kedge.notify.base import Message
from kedge.notify.receivers import Receivers
from kedge.pipeline.evaluate import evaluate_due
from kedge.rehearsal.cases import Case, ExpectedAlert, ExpectedMessage
from kedge.rehearsal.telling import Sent, Teller
from kedge.rehearsal.world import World, model_of
from kedge.windows import Millis, format_duration


@dataclass(frozen=True)
class Failure:
    """What was not as expected at one time."""

    loc: tuple[str | int, ...]
    """Where that stands, below the case."""
    title: str
    diff: tuple[str, ...]
    """Lines: `- ` what was expected and did not come, `+ ` what came and was not, `  ` what was."""


def play(case: Case, book: RuleBook, receivers: Receivers) -> list[Failure]:
    """Run a case; what was not as expected. Raises BadInput for one that cannot be run, its place the
    field."""
    model = model_of(case, book)
    _check_names(case, book)
    world = World(case, book, receivers, model)
    failures: list[Failure] = []
    fired: list[AlertState] = []
    teller = Teller(world.pipe, world.stage, _silences(case))
    sent: list[Sent] = []
    heard = 0
    named = {a.rule for e in case.expect for a in e.alerts or ()}
    for at, loc in _times(case):
        if at % world.base:
            acks = [j for j, ack in enumerate(case.acks) if ack.at == at]
            where = f"expect/{loc}/at" if loc is not None else f"acks/{acks[0]}/at"
            raise BadInput(f"at: a multiple of the bucket, {format_duration(world.base)}", where)
        world.at(case.start + at)
        counts = evaluate_due(world.pipe, book, world.now)
        if counts.held:
            raise BadInput(f"{counts.held[0].partition(': ')[2]}: write a finer `bucket`", "bucket")
        failures += _acknowledged(world, at)
        sent += teller.told(world.now)
        states = _states(world)
        if case.strict:
            fired += [s for s in states if s.status in ACTIVE and s.rule not in named and s not in fired]
        if loc is None:
            continue
        i = loc
        expected = case.expect[i]
        when = f"at {format_duration(at) if at else '0'}"
        if expected.alerts is not None or case.strict:
            diff = _alerts_diff(expected.alerts or (), states, case.strict or expected.alerts == ())
            if diff:
                failures.append(
                    Failure(
                        ("expect", i, "alerts") if expected.alerts else ("expect", i), f"alerts {when}", diff
                    )
                )
        if expected.messages is not None:
            new = sent[heard:]
            diff = _messages_diff(expected.messages, new, case.strict or not expected.messages)
            if diff:
                failures.append(Failure(("expect", i, "messages"), f"messages {when}", diff))
        heard = len(sent)
    if fired and not failures:
        lines = {f"+ {_shown(state, full=True)}": None for state in fired}
        failures.append(Failure(("strict",), "strict: nothing else may fire", tuple(lines)))
    return failures


def _check_names(case: Case, book: RuleBook) -> None:
    for i, expected in enumerate(case.expect):
        rules = [(f"alerts/{j}", alert.rule) for j, alert in enumerate(expected.alerts or ())]
        rules += [(f"messages/{j}", m.rule) for j, m in enumerate(expected.messages or ()) if m.rule]
        for where, rule in rules:
            if rule not in book.by_name:
                hint = did_you_mean(rule, list(book.by_name))
                raise BadInput(f'there is no rule "{rule}"{hint}', f"expect/{i}/{where}/rule")


def _times(case: Case) -> Iterator[tuple[Millis, int | None]]:
    """Every interval from the first on, those of acknowledgements, and those of expectations with their
    number."""
    wanted = {expected.at: i for i, expected in enumerate(case.expect)}
    acks = {ack.at for ack in case.acks}
    last = max(wanted)
    for at in sorted({*range(0, last + 1, case.interval), *acks, *wanted}):
        yield at, wanted.get(at)


def _acknowledged(world: World, at: Millis) -> Iterator[Failure]:
    """Acknowledge what is to be at this time. Where nothing fires that could be, the story is another one."""
    for i, ack in enumerate(world.case.acks):
        if ack.at != at:
            continue
        match = parse_match(ack.match)
        states = _states(world)
        rules = world.book.by_name
        found = [
            s
            for s in states
            if s.status in ACTIVE and matches(match, state_labels(s, rules[s.rule].identity.labels))
        ]
        for state in found:
            name = alert_id(state.rule, state.model, state.version, state.group)
            stored = world.stage.alerts.get(name)
            after = acknowledge(state, ack.by, rules[state.rule].identity, world.now)
            world.stage.alerts.swap(name, msgspec.to_builtins(after), stored.token if stored else None)
        if not found:
            there = [f"+ {_shown(state, full=True)}" for state in states if state.status not in QUIET]
            title = f"acks at {format_duration(at) if at else '0'}"
            yield Failure(("acks", i), title, (f"- what has {describe(match)} fires", *there))


def _states(world: World) -> list[AlertState]:
    held = world.stage.alerts.find().values()
    states = [msgspec.convert(stored.value, AlertState) for stored in held]
    return sorted(states, key=lambda s: (s.rule, s.model, s.version, sorted(s.group.items())))


# --- alerts -------------------------------------------------------------------------------------------------


def _labels(state: AlertState | Transition) -> dict[str, str]:
    version = {"version": state.version} if state.version else {}
    return {**state.group, **version}


def _alerts_diff(
    expected: Sequence[ExpectedAlert], states: Sequence[AlertState], every: bool
) -> tuple[str, ...]:
    """Empty where all is as expected."""
    named = {alert.rule for alert in expected}
    left = [s for s in states if every or s.rule in named]
    same: list[str] = []
    missing: list[str] = []
    for alert in expected:
        found = next((s for s in left if _is(alert, s)), None)
        if found is not None:
            left.remove(found)
            same.append(f"  {_shown(found, alert)}")
        elif alert.state is Status.INACTIVE and not any(_could_be(alert, s) for s in left):
            same.append(f"  {_wanted(alert)}")
        else:
            missing.append(f"- {_wanted(alert)}")
    wrong = [s for s in left if s.status not in QUIET or any(_could_be(a, s) for a in expected)]
    more = [f"+ {_shown(s, full=True)}" for s in wrong if s.status not in QUIET or missing]
    return (*same, *missing, *more) if missing or more else ()


def _could_be(alert: ExpectedAlert, state: AlertState) -> bool:
    return (
        alert.rule == state.rule
        and alert.model in (None, state.model)
        and (alert.labels is None or alert.labels == _labels(state))
    )


def _is(alert: ExpectedAlert, state: AlertState) -> bool:
    return (
        _could_be(alert, state)
        and alert.state is state.status
        and alert.severity in (None, state.severity)
        and (alert.says is None or alert.says in (state.finding.reason if state.finding else ""))
    )


def _wanted(alert: ExpectedAlert) -> str:
    said = [alert.rule, alert.state.value.replace("_", " ")]
    said += [alert.severity.word] if alert.severity else []
    said += [f"{name}={value}" for name, value in sorted((alert.labels or {}).items())]
    said += [f'says "{alert.says}"'] if alert.says else []
    return " ".join(said)


def _shown(state: AlertState, alert: ExpectedAlert | None = None, *, full: bool = False) -> str:
    said = [state.rule, state.status.value.replace("_", " ")]
    said += [state.severity.word] if state.severity and (full or (alert and alert.severity)) else []
    said += [f"{name}={value}" for name, value in sorted(_labels(state).items())]
    text = " ".join(said)
    return f"{text}: {state.finding.reason}" if full and state.finding else text


def _silences(case: Case) -> tuple[Silence, ...]:
    return tuple(
        Silence(
            id=str(i),
            match=one.match,
            author="the test",
            reason=case.name,
            created=case.start,
            starts=case.start + one.from_,
            ends=case.start + one.to,
        )
        for i, one in enumerate(case.silences)
    )


# --- messages -----------------------------------------------------------------------------------------------


def _messages_diff(expected: Sequence[ExpectedMessage], sent: Sequence[Sent], every: bool) -> tuple[str, ...]:
    named = {message.rule for message in expected}
    left = [s for s in sent if every or None in named or s.rules & named]
    same: list[str] = []
    missing: list[str] = []
    for message in expected:
        found = next((s for s in left if _tells(message, s)), None)
        if found is not None:
            left.remove(found)
            same.append(f"  {_sent(found)}")
        else:
            missing.append(f"- {_wanted_message(message)}")
    more = [f"+ {_sent(s)}" for s in left]
    return (*same, *missing, *more) if missing or more else ()


def _text(message: Message) -> str:
    return "\n".join([message.headline, *message.lines])


def _tells(wanted: ExpectedMessage, sent: Sent) -> bool:
    told = any(
        wanted.rule in (None, transition.rule)
        and wanted.status in (None, transition.after)
        and wanted.severity in (None, transition.severity)
        and (wanted.labels is None or wanted.labels == _labels(transition))
        for transition in sent.transitions
    )
    return wanted.to == sent.to and told and (wanted.says is None or wanted.says in _text(sent.message))


def _wanted_message(wanted: ExpectedMessage) -> str:
    said: list[str] = [f"to {wanted.to}:"]
    said += [wanted.rule] if wanted.rule else []
    said += [wanted.status.value.replace("_", " ")] if wanted.status else []
    said += [wanted.severity.word] if wanted.severity else []
    said += [f"{name}={value}" for name, value in sorted((wanted.labels or {}).items())]
    said += [f'says "{wanted.says}"'] if wanted.says else []
    return " ".join(said)


def _sent(sent: Sent) -> str:
    return f"to {sent.to}: {', '.join(map(_said, sent.transitions))}: {sent.message.headline}"


def _said(transition: Transition) -> str:
    severity: Severity = transition.severity
    labels = "".join(f" {name}={value}" for name, value in sorted(_labels(transition).items()))
    return f"{transition.rule} {transition.after.value.replace('_', ' ')} {severity.word}{labels}"
