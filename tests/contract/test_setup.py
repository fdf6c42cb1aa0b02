"""Setting up is safe to repeat, and says what it did."""

from kedge.store.base import Store


def test_a_second_set_up_changes_nothing(store: Store) -> None:
    for checks in (store.setup(dry_run=True), store.setup()):
        assert checks
        assert [check for check in checks if check.changed or not check.ok] == []


def test_a_store_answers_a_ping(store: Store) -> None:
    assert store.ping().ok
