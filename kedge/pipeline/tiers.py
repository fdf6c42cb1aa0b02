"""How far back each tier of summaries is kept; older buckets are summarised straight into the next."""

from kedge.config import Settings
from kedge.windows import Millis


def tier_floors(settings: Settings, now: Millis) -> dict[Millis, Millis]:
    """By tier: the start of the oldest day that is kept. What is kept for ever is left out."""
    floors = settings.kept.floors(now).tiers
    return {tier: start for tier, start in floors.items() if start}
