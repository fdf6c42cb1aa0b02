"""The errors that people see. Each says what is wrong, where, and the way out; none carries a secret."""


class KedgeError(Exception):
    """An error meant to be read by a person. The command line prints it and exits with 2."""


class BadInput(KedgeError):
    """Input that cannot be used; `place` is `file:line:col`, `row 7`, a field's name, or empty."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.reason = reason
        self.place = place


class StoreUnavailable(KedgeError):
    """The store cannot be reached, or answers 429 or 5xx: the same call may succeed later."""

    def __init__(self, text: str = "", status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """What it answered; 0 where it did not."""


class PartialResult(StoreUnavailable):
    """The store answered from only some of its shards or timed out: such an answer is never used."""


class TooManyBuckets(KedgeError):
    """The store's bucket limit was exceeded: ask for a shorter range."""


class TooManyGroups(KedgeError):
    """A bucket has more values of a dimension than can be listed: ask again with the list of those known."""

    def __init__(self, text: str, dimension: str, values: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.dimension = dimension
        self.values = values
        """The commonest of them, commonest first."""
