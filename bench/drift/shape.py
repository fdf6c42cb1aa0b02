"""What the rows are: apart from how they are made, so that the measured process loads kedge alone."""

from kedge.pipeline.schema import Features
from kedge.windows import DAY, Window

MODEL = "model-000"
FEATURES = Features(tuple(f"n{j:02}" for j in range(20)), tuple(f"c{j}" for j in range(5)))
START = 20_600 * DAY
REFERENCE, CURRENT = Window(START, START + DAY), Window(START + DAY, START + 2 * DAY)
MOVED, BY = "n00", 0.5
"""A shift of half a standard deviation: everyone should find it, and it alone."""
