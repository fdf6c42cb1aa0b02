"""The rules in force: read again when a file changed; a broken file keeps its last good version."""

from dataclasses import replace
from pathlib import Path

from kedge.alerting.loading import Problem, Rule, RuleBook, load_rules


class RuleSource:
    """Calls give the rules in force now. Files are looked at once a tick, and read only when one was saved."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._seen: dict[Path, tuple[int, int]] | None = None
        self._good: dict[str, tuple[Rule, ...]] = {}
        self._book = RuleBook((), ())

    def __call__(self) -> RuleBook:
        seen = {f: (s.st_mtime_ns, s.st_size) for f in self._files() if (s := f.stat())}
        if seen != self._seen:
            self._seen = seen
            self._book = self._merge(load_rules([f for f in self._folders if f.exists()]))
        return self._book

    def _files(self) -> list[Path]:
        found = [f for folder in self._folders for f in (folder.rglob("*") if folder.is_dir() else [folder])]
        return sorted(f for f in found if f.suffix in (".yml", ".yaml") and f.is_file())

    def _merge(self, book: RuleBook) -> RuleBook:
        """Rules of sound files, and of broken ones those of the last time that they were sound."""
        broken = {_file(p) for p in book.problems}
        by_file: dict[str, list[Rule]] = {}
        for rule in book.rules:
            by_file.setdefault(rule.place.rsplit(":", 1)[0], []).append(rule)
        present = {str(f) for f in self._files()}
        self._good = {name: rules for name, rules in self._good.items() if name in present}
        for name, rules in by_file.items():
            if name not in broken or name not in self._good:
                self._good[name] = tuple(rules)
        for name in present - by_file.keys() - broken:
            self._good.pop(name, None)
        taken: set[str] = set()
        kept: list[Rule] = []
        for rule in (r for name in sorted(self._good) for r in self._good[name]):
            if rule.name not in taken:
                taken.add(rule.name)
                kept.append(rule)
        return replace(book, rules=tuple(kept))


def _file(problem: Problem) -> str:
    return problem.file
