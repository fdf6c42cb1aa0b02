"""Reference data that a model was registered with in MLflow: a file among the artifacts of its run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kedge.errors import BadInput, KedgeError

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)")
_FORMS = "write models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN_ID"


class Artifact(NamedTuple):
    """A file that was fetched."""

    path: Path
    source: str
    """For people: `file reference.parquet of MLflow's models:/fraud@champion, version 3`."""


@contextmanager
def artifact_of(uri: str, name: str) -> Iterator[Artifact]:
    """The artifact `name` of a registered model version, by alias or number, or of a run; it is there within
    the `with` block. The tracking server is the one that MLflow itself would use (MLFLOW_TRACKING_URI).

    Raises KedgeError where mlflow is not installed, BadInput where the server has no such thing.
    """
    of_model, of_run = _MODEL.fullmatch(uri), _RUN.fullmatch(uri)
    if not (of_model or of_run):
        raise BadInput(f'"{uri}" names no model of MLflow: {_FORMS}')
    try:
        from mlflow import MlflowClient
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as missing:
        raise KedgeError(
            f"--mlflow needs mlflow ({missing.name} is missing): pip install 'kedge[mlflow]'"
        ) from None
    with TemporaryDirectory(prefix="kedge-mlflow-") as folder:
        try:
            version = ""
            if of_model:
                client, model = MlflowClient(), of_model["name"]
                found = (
                    client.get_model_version_by_alias(model, of_model["alias"])
                    if of_model["alias"]
                    else client.get_model_version(model, of_model["version"])
                )
                run, version = found.run_id, f", version {found.version}"
            else:
                run = of_run["run"] if of_run else ""
            if not run:
                raise BadInput(f"{uri}{version} was registered without a run, so it has no artifacts")
            path = Path(download_artifacts(run_id=run, artifact_path=name, dst_path=folder))
        except (MlflowException, OSError, ModuleNotFoundError) as error:
            said = str(error).strip().splitlines()
            raise BadInput(f"MLflow has no {name} of {uri}: {said[0] if said else error!r}") from None
        if not path.is_file():
            raise BadInput(f"{name} of {uri} is a folder: name a file in it (--artifact)")
        yield Artifact(path, f"file {name} of MLflow's {uri}{version}")
