"""Rules tried before they are trusted: tests over made series, and backtests over stored history.

Both run the pipeline's own judging and lifecycle (`kedge.pipeline.evaluate`) on a stage: a store whose
alerts, events and outbox are kept in memory. There is no second judge.
"""
