"""The use-cases: plan, summarise, measure, evaluate, deliver; each takes its ports and `now`."""
