"""What a figure is to reach."""


def at_least(value: float, target: float) -> dict[str, object]:
    return {"value": round(value, 3), "target": f"at least {target:,g}", "met": value >= target}


def at_most(value: float, target: float) -> dict[str, object]:
    return {"value": round(value, 3), "target": f"at most {target:,g}", "met": value <= target}
