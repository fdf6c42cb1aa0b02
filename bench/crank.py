"""A pipeline over a store of the bench: rules at hand, settings for every model, a receiver nobody reads."""

from kedge.alerting.loading import RuleBook
from kedge.config import Settings
from kedge.notify.base import Message, Receipt
from kedge.notify.receivers import Receivers
from kedge.pipeline.context import Pipeline
from kedge.store.base import Store
from kedge.windows import MINUTE

LAG = MINUTE
"""The default of `models.*.lag`: a bucket is due this long after its end."""


class Quiet:
    """Takes every message and shows it to nobody."""

    def send(self, message: Message, *, thread: dict[str, str] | None = None, again: bool = False) -> Receipt:
        return Receipt("quiet")


def pipeline(store: Store, book: RuleBook | None = None) -> Pipeline:
    """One worker, with buckets of a minute for all models."""
    rules = book or RuleBook()
    return Pipeline(
        store=store,
        settings=Settings.model_validate({"models": {"*": {"bucket": "1m", "positive_class": "fraud"}}}),
        rules=lambda: rules,
        receivers=Receivers({"quiet": Quiet()}, "quiet"),
        holder="bench",
    )
