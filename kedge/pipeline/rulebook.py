"""The rules in force: read again when a file changed; a broken file keeps its last good version.

The last good text of each file is kept in the store as well, so that a worker that starts while a file is
broken goes on with it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from kedge.alerting.loading import Problem, RuleBook, load_rules, parse_rules, rule_files, shown
from kedge.alerting.routing import Routing
from kedge.store.base import DocumentStore

_PREFIX = "rules-kept:"


class RuleSource:
    """Calls give the rules in force now. Files are looked at once a tick, and read only when one was
    saved. What `routing` says now of budgets is split over the rules: one that is added or taken away
    changes the shares of the others.
    """

    def __init__(
        self, *paths: Path, routing: Callable[[], Routing], kept: DocumentStore | None = None
    ) -> None:
        self._paths = paths
        self._routing = routing
        self._shared: Routing | None = None
        """By which the book is shared."""
        self._kept = kept
        self._seen: dict[Path, tuple[int, int]] | None = None
        self._book = RuleBook()

    def __call__(self) -> RuleBook:
        there = [p for p in self._paths if p.exists()]
        files = list(rule_files(there))
        statuses = [(f, f.stat()) for f in files]
        seen = {f: (status.st_mtime_ns, status.st_size) for f, status in statuses}
        seen |= dict.fromkeys(there, (0, 0)) if not files else {}
        if seen != self._seen:
            texts = {shown(file): _text(file) for file in files}
            book = load_rules(files)
            if self._kept is not None:
                book = self._remembered(self._kept, book, texts)
            self._book, self._shared = book.keeping(self._book), None
            self._seen = seen
        routing = self._routing()
        if routing != self._shared:
            self._book, self._shared = self._book.shared(routing), routing
        return self._book

    def _remembered(self, kept: DocumentStore, book: RuleBook, texts: Mapping[str, str | None]) -> RuleBook:
        """The book with the last good rules of files that were broken before this worker first read them;
        what is good is kept. A file that is gone is forgotten, but not while its whole folder is.
        """
        stored = kept.find(_PREFIX)
        for name, text in texts.items():
            document = stored.get(_PREFIX + name)
            if text is None or name in book.broken or (document and document.value["text"] == text):
                continue
            kept.swap(_PREFIX + name, {"text": text}, document.token if document else None)
        lost = [shown(path) for path in self._paths if not path.exists()]
        missing, problems = [], []
        for name, document in stored.items():
            file = name.removeprefix(_PREFIX)
            if file not in texts and not lost:
                kept.delete(name, document.token)
            elif file not in texts:
                problems.append(Problem(file, 1, 1, f"there is no folder {', '.join(lost)} any more"))
                missing.append(parse_rules(document.value["text"], file))
            elif file in book.broken:
                missing.append(parse_rules(document.value["text"], file))
        good = [rule for old in missing if not old.problems for rule in old.rules]
        book = RuleBook(book.rules, (*book.problems, *problems), book.kept)
        return book.keeping(RuleBook(tuple(good)))


def _text(file: Path) -> str | None:
    """As it is read for its rules; None: it cannot be."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
