"""A message as Slack shows it: Block Kit, escaped and cut to Slack's limits before it is sent. Pure.

Limits: https://docs.slack.dev/reference/block-kit/blocks and
https://docs.slack.dev/reference/methods/chat.postMessage. Lengths are counted after escaping and in UTF-16
units, which is never less than Slack counts.

Whatever comes from rules and data goes into `plain_text`, where Slack parses no markup at all. Only texts of
links, and names and values of fields, are `mrkdwn`, which has escapes for & < > alone and none for * _ ~ `.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from kedge.notify.base import Link, Message

Block = dict[str, Any]

MAX_HEADER = 150
MAX_SECTION = 3_000
MAX_FIELD = 2_000
MAX_FIELDS = 10
MAX_BLOCKS = 50
MAX_CONTEXT_ELEMENTS = 10
MAX_TEXT = 4_000
"""Slack takes 40,000 and advises 4,000."""
MAX_URL = 3_000
MAX_LINK_TEXT = 75
MAX_NAME = 100
"""Of an alert, before its links."""

EVENT_TYPE = "kedge_transition"

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_MARKUP = re.compile(r"(?<!\w)[*_~`]|[*_~`](?!\w)")
_LOOKALIKES = {"*": "∗", "_": "＿", "~": "∼", "`": "ˋ"}


def payload(message: Message) -> dict[str, Any]:
    """What chat.postMessage and a webhook take alike: the text for notifications, blocks, and the colour."""
    headline = f"{message.emoji} {message.headline}".strip()
    body: list[Block] = []
    if message.lines:
        body.append({"type": "section", "text": plain("\n".join(message.lines), MAX_SECTION)})
    if message.fields:
        fields = [
            {"type": "mrkdwn", "text": f"*{mrkdwn(name, 200)}*\n{mrkdwn(value, MAX_FIELD - 300)}"}
            for name, value in message.fields[:MAX_FIELDS]
        ]
        body.append({"type": "section", "fields": fields})
    context: list[Block] = []
    if anchors := _anchors(message.links):
        context.append({"type": "mrkdwn", "text": anchors})
    if message.footer:
        context.append(plain(message.footer, MAX_SECTION))
    if context:
        body.append({"type": "context", "elements": context[:MAX_CONTEXT_ELEMENTS]})
    body += _ways(message.alerts)
    header = {"type": "header", "text": plain(headline, MAX_HEADER)}
    summary = "\n".join([headline, *message.lines[:1]])
    result: dict[str, Any] = {
        "text": escaped(summary, MAX_TEXT) or "kedge",
        "blocks": [header],
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    if body:
        # Only an attachment has a coloured bar.
        attachment: Block = {"blocks": body[: MAX_BLOCKS - 1], "fallback": escaped(headline, MAX_TEXT)}
        if message.colour:
            attachment["color"] = message.colour
        result["attachments"] = [attachment]
    return result


def metadata(message: Message) -> dict[str, Any]:
    """What a later attempt looks for, so that one of unknown fate does not post twice."""
    return {"event_type": EVENT_TYPE, "event_payload": {"transition": message.transition}}


def plain(text: str, limit: int) -> Block:
    """A text object without markup; Slack refuses an empty one."""
    return {"type": "plain_text", "text": escaped(text, limit) or "–", "emoji": True}


def escaped(text: str, limit: int) -> str:
    """`text` with & < > as entities, at most `limit` UTF-16 units; a cut shows as … and splits no entity."""
    text = _UNSAFE.sub("\ufffd", text).strip()
    pieces: list[str] = []
    used = keep = 0
    for char in text:
        piece = _ENTITIES.get(char, char)
        size = len(piece) if char in _ENTITIES else 1 + (ord(char) > 0xFFFF)
        if used + size > limit:
            return "".join(pieces[:keep]) + "…"
        pieces.append(piece)
        used += size
        if used <= limit - 1:
            keep = len(pieces)
    return "".join(pieces)


def mrkdwn(text: str, limit: int) -> str:
    """`escaped`, with look-alikes for formatting characters where they would format: at words' edges."""
    return escaped(_MARKUP.sub(lambda match: _LOOKALIKES[match[0]], text.replace("\n", " ")), limit)


def _ways(alerts: Sequence[tuple[str, tuple[Link, ...]]]) -> Iterator[Block]:
    """A line of links an alert, in as few texts as they fit into: URLs are long, and a text is not."""
    texts: list[str] = []
    for name, links in alerts:
        lead = f"{mrkdwn(name, MAX_NAME)}: "
        anchors = _anchors(links, MAX_SECTION - _units(lead))
        if not anchors:
            continue
        line = lead + anchors
        if texts and _units(f"{texts[-1]}\n{line}") <= MAX_SECTION:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line)
    for start in range(0, len(texts), MAX_CONTEXT_ELEMENTS):
        part = texts[start : start + MAX_CONTEXT_ELEMENTS]
        yield {"type": "context", "elements": [{"type": "mrkdwn", "text": text} for text in part]}


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _anchors(links: tuple[Link, ...], limit: int = MAX_SECTION) -> str:
    """`<url|text> · …`: a link that does not fit is left out whole, for a cut URL leads nowhere."""
    result = ""
    for link in links:
        # In <url|text> the bar and > end the URL; everything else that is not ASCII-safe is quoted too.
        url = quote(link.url, safe="!#$&'()*+,/:;=?@[]~%", errors="replace").replace("&", "&amp;")
        anchor = f"<{url}|{mrkdwn(link.text, MAX_LINK_TEXT)}>"
        joined = f"{result} · {anchor}" if result else anchor
        if len(url) <= MAX_URL and _units(joined) <= limit:
            result = joined
    return result
