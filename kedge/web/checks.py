"""The route that `kedge rules check` asks: what the store says of rules that are not in force yet."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from kedge.alerting.loading import parse_files
from kedge.pipeline.context import Pipeline
from kedge.pipeline.lookout import foreseen
from kedge.store.base import Json


class CheckBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: dict[str, str]
    """The rule files, text by name."""
    whole: bool = True
    """They are all there are: a rule that stands in none of them is gone."""


def check_routes(router: APIRouter, pipe: Pipeline) -> None:
    @router.post("/v1/rules/check")
    def check(body: CheckBody) -> list[Json]:
        """What rules may expect of what is stored, before they are in force; nothing is written.

        A row each: the `rule`, the `field` that it is about, the `warning`, and the `file` where the rule is
        in none of those given. What is wrong with the files as this server reads them comes first.
        """
        book = parse_files(body.files)
        book = book.shared(pipe.current_receivers().tree, None if body.whole else pipe.rules())
        otherwise = [
            {"rule": "", "field": "", "file": p.place, "warning": f"the server reads it otherwise: {p.text}"}
            for p in book.problems
        ]
        told = foreseen(pipe, book, None if body.whole else body.files.keys())
        return otherwise + [
            {"rule": one.rule, "field": one.field, "file": one.file, "warning": one.text} for one in told
        ]
