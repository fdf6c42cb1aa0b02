"""Keep the services between test runs: `python -m tests.services prepare | up | down | status`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from tests.services import host
from tests.services.base import ServiceError, end_group, is_running
from tests.services.pool import SERVICES, variable


def _records() -> Path:
    return host.cache_dir() / "up.json"


def _load() -> dict[str, dict[str, object]]:
    return json.loads(_records().read_text()) if _records().exists() else {}


def _is_ours(record: dict[str, object]) -> bool:
    return is_running(int(str(record["pid"])), Path(str(record["folder"])))


def prepare() -> int:
    """Fetch everything the tests use. What cannot be had is told here, and judged by the tests."""
    for name, kind in SERVICES.items():
        try:
            kind.prepare()
        except ServiceError as error:
            host.say(f"{name}: {error}")
    try:
        host.command("docker-compose", "docker-compose")
    except ServiceError as error:
        host.say(f"docker-compose: {error}")
    return 0


def up() -> int:
    records, failed, started = _load(), False, []
    for name, kind in SERVICES.items():
        service = kind(kind.default_port, attached=False)
        if kind.answers(service.url):
            if name not in records or not _is_ours(records[name]):
                host.say(f"{name}: something else answers at {service.url} already; using it")
            continue
        try:
            service.launch()
        except ServiceError as error:
            host.say(f"{name}: {error}")
            failed = True
        else:
            host.say(f"starting {name} …")
            started.append(service)
    for service in started:
        try:
            service.wait()
        except ServiceError as error:
            host.say(str(error))
            service.stop()
            failed = True
            continue
        assert service.process is not None
        records[service.name] = {"pid": service.process.pid, "folder": str(service.folder)}
        _records().write_text(json.dumps(records, indent=2) + "\n")
    lines = []
    for name, kind in SERVICES.items():
        url = kind(kind.default_port).url
        if kind.answers(url):
            lines.append(f"export {variable(name)}={url}")
    text = "".join(f"{line}\n" for line in lines)
    (host.cache_dir() / "env").write_text(text)
    print(text, end="")
    return int(failed)


def down() -> int:
    for name, record in _load().items():
        if _is_ours(record):
            host.say(f"stopping {name} …")
            end_group(int(str(record["pid"])))
        shutil.rmtree(str(record["folder"]), ignore_errors=True)
    _records().unlink(missing_ok=True)
    (host.cache_dir() / "env").unlink(missing_ok=True)
    host.remove_abandoned()
    return 0


def status() -> int:
    records, all_up = _load(), True
    for name, kind in SERVICES.items():
        url = kind(kind.default_port).url
        healthy = kind.answers(url)
        ours = name in records and _is_ours(records[name])
        all_up &= healthy
        state = ("up" if ours else "up, not started by us") if healthy else "down"
        pid = f", pid {records[name]['pid']}" if ours else ""
        print(f"{name:14} {url:28} {state}{pid}")
    return 0 if all_up else 1


def main() -> int:
    commands = {"prepare": prepare, "up": up, "down": down, "status": status}
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("command", choices=commands)
    return commands[parser.parse_args().command]()


if __name__ == "__main__":
    sys.exit(main())
