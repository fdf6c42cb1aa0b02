"""How often drift verdicts are false, and how often they are right: simulated, beside others' defaults."""

from bench.false_alarms.measure import measure

__all__ = ["measure"]
