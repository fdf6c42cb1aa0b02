"""Cleaning up on a shared server."""

import httpx

AT_ONCE = 50
"""Names in one request: a line of HTTP may have 4 kB."""


def remove_all(url: str, prefix: str) -> None:
    """Remove every index and template of a prefix. Wildcards may be forbidden for indices: by name."""
    with httpx.Client(base_url=url, timeout=60) as client:
        listed = client.get(f"/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all")
        names = [entry["index"] for entry in listed.json()] if listed.status_code == 200 else []
        for start in range(0, len(names), AT_ONCE):
            client.delete(f"/{','.join(names[start : start + AT_ONCE])}").raise_for_status()
        for kind in ("_index_template", "_component_template"):
            gone = client.delete(f"/{kind}/{prefix}*")
            if gone.status_code != 404:
                gone.raise_for_status()
