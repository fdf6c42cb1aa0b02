"""The rules in force: read again when a file changed; a broken file keeps its last good version."""

from pathlib import Path

from kedge.alerting.loading import RuleBook, load_rules, rule_files


class RuleSource:
    """Calls give the rules in force now. Files are looked at once a tick, and read only when one was
    saved.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen: dict[Path, tuple[int, int]] | None = None
        self._book = RuleBook()

    def __call__(self) -> RuleBook:
        files = list(rule_files([p for p in self._paths if p.exists()]))
        statuses = [(f, f.stat()) for f in files]
        seen = {f: (status.st_mtime_ns, status.st_size) for f, status in statuses}
        if seen != self._seen:
            self._seen = seen
            self._book = load_rules(files).keeping(self._book)
        return self._book
