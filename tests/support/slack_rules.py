"""What Slack's Web API refuses in a message, by its documented limits.

Sources: https://docs.slack.dev/reference/block-kit/blocks, /reference/block-kit/composition-objects,
/reference/methods/chat.postMessage, /messaging/message-metadata.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_TEXT = 40_000
MAX_BLOCKS = 50
MAX_ATTACHMENTS = 100
_ENTITY = re.compile(r"&(?!(amp|lt|gt);)")
_ANCHOR = re.compile(r"<(https?://[^<>|]+)(\|[^<>]*)?>")


def refusal(body: dict[str, Any]) -> tuple[str, list[str]] | None:
    """Slack's error code with its reasons, or None for a message that it would take."""
    text, blocks, attachments = (
        body.get("text") or "",
        body.get("blocks") or [],
        body.get("attachments") or [],
    )
    if not (text or blocks or attachments):
        return "no_text", []
    if len(text) > MAX_TEXT:
        return "msg_too_long", []
    if len(attachments) > MAX_ATTACHMENTS:
        return "too_many_attachments", []
    reasons = list(_blocks(blocks, "blocks"))
    for i, attachment in enumerate(attachments):
        reasons += _blocks(attachment.get("blocks") or [], f"attachments/{i}/blocks")
        colour = attachment.get("color", "good")
        if not re.fullmatch(r"#?[0-9a-fA-F]{6}|good|warning|danger", colour):
            reasons.append(f"attachments/{i}: color {colour!r}")
    if reasons:
        return "invalid_blocks", reasons
    if (problem := _metadata(body.get("metadata"))) is not None:
        return "invalid_metadata_format", [problem]
    return None


def _blocks(blocks: Any, path: str) -> Iterator[str]:
    if not isinstance(blocks, list):
        yield f"{path}: not a list"
        return
    if len(blocks) > MAX_BLOCKS:
        yield f"{path}: {len(blocks)} blocks, at most {MAX_BLOCKS}"
    for i, block in enumerate(blocks):
        where = f"{path}/{i}"
        match block.get("type") if isinstance(block, dict) else None:
            case "header":
                yield from _text(block.get("text"), f"{where}/text", 150, ("plain_text",))
            case "section":
                yield from _section(block, where)
            case "context":
                elements = block.get("elements") or []
                if not 1 <= len(elements) <= 10:
                    yield f"{where}: {len(elements)} elements, 1 to 10"
                for j, element in enumerate(elements):
                    yield from _text(element, f"{where}/elements/{j}", 3_000)
            case "divider":
                pass
            case other:
                yield f"{where}: unsupported type {other!r}"


def _section(block: dict[str, Any], where: str) -> Iterator[str]:
    fields = block.get("fields")
    if block.get("text") is None and not fields:
        yield f"{where}: neither text nor fields"
    if block.get("text") is not None:
        yield from _text(block["text"], f"{where}/text", 3_000)
    if fields is not None and not 1 <= len(fields) <= 10:
        yield f"{where}: {len(fields)} fields, 1 to 10"
    for j, field in enumerate(fields or []):
        yield from _text(field, f"{where}/fields/{j}", 2_000)


def _text(
    value: Any, where: str, limit: int, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")
) -> Iterator[str]:
    if not isinstance(value, dict) or value.get("type") not in kinds:
        yield f"{where}: not a text object of {kinds}"
        return
    text = value.get("text")
    if not isinstance(text, str) or not text:
        yield f"{where}: must be at least 1 character"
        return
    # Counted as JavaScript counts, the strictest reading of "characters".
    if (length := len(text.encode("utf-16-le", "surrogatepass")) // 2) > limit:
        yield f"{where}: {length} characters, at most {limit}"
    if set(value) - {"type", "text", "emoji", "verbatim"}:
        yield f"{where}: unknown keys {sorted(value)}"
    if _ENTITY.search(text):
        yield f"{where}: an & that is not escaped"
    rest = _ANCHOR.sub("", text) if value["type"] == "mrkdwn" else text
    if "<" in rest or ">" in rest:
        yield f"{where}: < or > that is not escaped"
    for url, _ in _ANCHOR.findall(text):
        if len(url) > 3_000:
            yield f"{where}: a URL of {len(url)} characters, at most 3000"


def _metadata(metadata: Any) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or set(metadata) != {"event_type", "event_payload"}:
        return "metadata has event_type and event_payload"
    if not isinstance(metadata["event_type"], str) or not isinstance(metadata["event_payload"], dict):
        return "event_type is text, event_payload an object"
    if len(json.dumps(metadata)) > 16_000:
        return "metadata over 16 kB"
    return None
