"""How far back each tier of summaries is kept; older buckets are summarised straight into the next."""

from kedge.config import Settings
from kedge.windows import DAY, HOUR, MINUTE, Millis, floor


def tier_floors(settings: Settings, now: Millis) -> dict[Millis, Millis]:
    """By tier: the start of the oldest day that is kept. Days are kept for ever; embedded, all is."""
    if settings.embedded:
        return {}
    return {MINUTE: floor(now - 8 * DAY, DAY), HOUR: floor(now - 400 * DAY, DAY)}
