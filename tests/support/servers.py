"""Cleaning up on a shared server."""

import httpx


def remove_all(url: str, prefix: str) -> None:
    """Remove every index and template of a prefix. Wildcards may be forbidden for deletion, so one by one."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for listing, place in (
            (f"/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all", ""),
            (f"/_index_template/{prefix}*", "_index_template/"),
            (f"/_component_template/{prefix}*", "_component_template/"),
        ):
            found = client.get(listing)
            if found.status_code != 200:
                continue
            content = found.json()
            if isinstance(content, list):
                names = [entry["index"] for entry in content]
            else:
                names = [entry["name"] for entries in content.values() for entry in entries]
            at_once = 1 if place else 50  # OpenSearch takes lists of indices, not of templates
            for start in range(0, len(names), at_once):
                client.delete(f"/{place}{','.join(names[start : start + at_once])}").raise_for_status()
