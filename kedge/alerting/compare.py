"""What a rule compares with: the baseline, other windows of the same model, or another version."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kedge.alerting.fields import Text, WindowLength
from kedge.windows import DAY, Millis

HISTORY: Millis = 30 * DAY
WEEKS = 4
"""How many weeks back `same_time` looks."""
USABLE = 2
"""Weeks that `same_time` needs at least: one alone may have been a holiday."""
MEANING = (
    "`{to: baseline}`: the model's pinned reference. `{to: history, window: 30d}`: so long a time, ending "
    "before the window begins, without the times in which this alert fired; while it fires, the time before "
    "it did. `{to: same_time}`: the median of the last four weeks at this time of the week, in the rule's "
    "`timezone`; at least two of them must have data. `{to: version, version: v6}`: that version's rows in "
    "the same window. `{to: previous}`: the window just before, which heals itself."
)


class Compare(BaseModel):
    """What a metric, or the cells of features and classes, are compared with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: Literal["baseline", "history", "same_time", "version", "previous"] = Field(
        description="`baseline`, `history`, `same_time`, `version` or `previous`."
    )
    window: WindowLength | None = Field(
        None, description="Of `to: history`: how long it is; 30d unless said."
    )
    version: Text | None = Field(None, description="Of `to: version`: which one.")

    @model_validator(mode="before")
    @classmethod
    def _is_map(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping | Compare):
            raise ValueError("write a map: `compare: {to: baseline}`")
        return raw

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.window is not None and self.to != "history":
            raise ValueError("`window` goes with `to: history`")
        if self.version is not None and self.to != "version":
            raise ValueError("`version` goes with `to: version`")
        if self.version is None and self.to == "version":
            raise ValueError("says not which: write `compare: {to: version, version: v6}`")
        return self

    @property
    def history(self) -> Millis:
        """How much time is looked back at; 0 where it is no history."""
        return (self.window or HISTORY) if self.to == "history" else 0

    @property
    def same_length(self) -> bool:
        """Whether its windows are as long as the rule's, so that counts can be compared."""
        return self.to in ("same_time", "version", "previous")

    def problems(self, version: str, by: tuple[str, ...], every: str) -> Iterator[str]:
        """What does not fit the rule that it is of, with the rule's `version`, of which `every` means all
        versions together, and `by`."""
        if self.to != "version":
            return
        if version == every and "version" not in by:
            yield (
                "`compare: {to: version}` is for versions that are judged apart: write `version: serving`, "
                "the name of one, or `by: [version]`"
            )
        elif version == self.version:
            yield f"version {version} is compared with itself: name two"

    def warnings(self) -> Iterator[str]:
        """What is allowed, and rarely meant."""
        if self.to == "previous":
            yield (
                "compares with the window just before, so a change that stays is normal one window later and "
                "the alert heals itself: `to: history` and `to: baseline` do not"
            )
