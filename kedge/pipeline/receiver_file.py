"""The receivers in force: notify.yml, read again when it was saved; a broken one keeps its last good version.

The last good text is kept in the store as well, so that a worker that starts while the file is broken goes
on with it. It holds names of environment variables, never a secret.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kedge.alerting.loading import Problem, shown, unreadable
from kedge.errors import BadInput, KedgeError, StoreUnavailable
from kedge.notify.message import Links
from kedge.notify.receivers import BrokenFile, Receivers, load_receivers, receivers_of
from kedge.store.base import DocumentStore
from kedge.yamlfile import YamlError, parse_yaml, read_text

_PREFIX = "notify-kept:"


class ReceiverSource:
    """Calls give the receivers in force now; the file is looked at by each, and read when it was saved.

    One that is gone while kedge runs stays in force, as a broken one does: nobody should hear of nothing
    because a volume was unmounted. Started without it, kedge goes by the environment.
    """

    def __init__(self, path: Path, env: Mapping[str, str], links: Links, kept: DocumentStore) -> None:
        self._path, self._env, self._links, self._kept = path, env, links, kept
        self._seen: tuple[int, int, int] | None = None
        self._held: Receivers | None = None
        self._unkept: str | None = None
        """The text in force, until it is in the store."""
        self._of_file = False
        """What is in force was read from the file, once."""

    def __call__(self) -> Receivers:
        """Raises BadInput or YamlError where the file is broken and no good version of it is known."""
        seen = _status(self._path)
        held = self._held
        if held is None or seen != self._seen:
            held = self._read(held, there=seen is not None)
            self._held, self._seen = held, seen
        return held

    def keep(self) -> None:
        """Put what is in force into the store. For ticks: only they know that the store is set up."""
        text = self._unkept
        if text is None:
            return
        stored = self._kept.get(self._document)
        if stored is None or stored.value["text"] != text:
            self._kept.swap(self._document, {"text": text}, stored.token if stored else None)
        if self._unkept is text:  # else another thread has read a newer one since
            self._unkept = None

    @property
    def _document(self) -> str:
        return _PREFIX + shown(self._path)

    def _read(self, held: Receivers | None, *, there: bool) -> Receivers:
        file = shown(self._path)
        try:
            if there:
                text = read_text(self._path, file)
                fresh = receivers_of(parse_yaml(text, file), self._env, links=self._links)
                self._unkept, self._of_file = text, True
                return fresh
            self._not_gone(file, held)
            return load_receivers(None, self._env, links=self._links)
        except (BrokenFile, YamlError) as error:
            good = held or self._last_good(file)
            if good is None:
                raise
            problems = error.problems if isinstance(error, BrokenFile) else (unreadable(file, str(error)),)
            return replace(good, problems=problems)

    def _not_gone(self, file: str, held: Receivers | None) -> None:
        """Raises BrokenFile where that there is no file is no decision to do without it."""
        if held is not None and self._of_file:
            text = "there is no such file any more: put it back, or start kedge anew to do without it"
        elif held is None and not self._path.parent.exists():
            text = f"there is no folder {shown(self._path.parent)} any more"
            if self._last_good(file) is None:
                return
        else:
            return
        raise BrokenFile([Problem(file, 1, 1, text)])

    def _last_good(self, file: str) -> Receivers | None:
        """As the store knows them, of the file as any worker read it last."""
        try:
            stored = self._kept.get(self._document)
        except StoreUnavailable:
            raise
        except KedgeError:
            return None  # a store that was never set up
        if stored is None:
            return None
        try:
            good = receivers_of(parse_yaml(stored.value["text"], file), self._env, links=self._links)
        except (BadInput, YamlError):
            return None  # of another version of kedge, or of an environment with other secrets
        self._of_file = True
        return good


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # A file that was put in place of another may have its age and its size.
    return status.st_mtime_ns, status.st_size, status.st_ino
