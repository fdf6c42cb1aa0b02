"""How far imports have come, kept in the store's state until they have ended."""

from kedge.store.base import DocumentStore, Json

_PREFIX = "import:"


def import_progress(state: DocumentStore, name: str) -> Json:
    """What the import of that fingerprint has stored: {"rows", "counts"}; {} where none is under way."""
    stored = state.get(_PREFIX + name)
    return dict(stored.value) if stored else {}


def keep_import(state: DocumentStore, name: str, progress: Json) -> None:
    """Note progress; of two imports of one file the one that is further ahead is kept."""
    while True:
        stored = state.get(_PREFIX + name)
        if stored and stored.value.get("rows", 0) > progress["rows"]:
            return
        if state.swap(_PREFIX + name, progress, stored.token if stored else None):
            return


def forget_import(state: DocumentStore, name: str) -> None:
    """It has ended, or is to begin anew."""
    while (stored := state.get(_PREFIX + name)) is not None:
        if state.delete(_PREFIX + name, stored.token):
            return
