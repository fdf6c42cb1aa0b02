"""References from elsewhere: one version of the stored logs, and an artifact of a model in MLflow."""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from kedge.cli.mlflow_artifact import artifact_of
from kedge.errors import BadInput, KedgeError
from kedge.windows import DAY, HOUR, MINUTE, iso
from tests.e2e.test_command_line import T0, Kedge, as_csv, kedge_in, rows_of

__all__ = ["kedge_in"]


def test_a_baseline_of_one_version_of_the_stored_logs(kedge_in: Kedge, tmp_path: Path) -> None:
    rows = rows_of(range(2))
    for name, some in (("v5", rows[::2]), ("v6", rows[1::2])):
        as_csv(tmp_path / f"{name}.csv", some)
        kedge_in("import", f"{name}.csv", "--model", "fraud", "--version", name, "--label", "truth")
    kedge_in("tick", "--drain", "--now", iso(T0 + 2 * DAY + 2 * MINUTE))
    create = ("baseline", "create", "fraud", "--json")
    made = kedge_in(*create, "--version", "v6").row
    assert made["rows"] == len(rows) // 2
    assert made["source"].startswith("version v6, window ")
    some = kedge_in(*create, "--version", "v6", "--from", iso(T0), "--to", iso(T0 + 6 * HOUR)).row
    assert some["rows"] == 6 * 20
    missing = kedge_in(*create, "--version", "v7", code=2)
    assert "has no rows of version v7" in missing.err
    both = kedge_in(*create, "--version", "v6", "--file", "v5.csv", code=2)
    assert "give one of --file" in both.err
    assert (
        "--artifact goes with --mlflow"
        in kedge_in(*create, "--file", "v5.csv", "--artifact", "x", code=2).err
    )
    assert "give both --from and --to" in kedge_in(*create, "--from", iso(T0), code=2).err


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A tracking store in a folder, with a registered model: its first version has a run with reference data
    and the alias `champion`, its second was registered without a run."""
    mlflow = pytest.importorskip("mlflow")
    env = {"MLFLOW_TRACKING_URI": f"file:{tmp_path / 'mlruns'}", "MLFLOW_ALLOW_FILE_STORE": "true"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client = mlflow.MlflowClient(env["MLFLOW_TRACKING_URI"])
    run = client.create_run(client.create_experiment("training")).info
    pd.DataFrame(rows_of(range(1))).to_parquet(tmp_path / "reference.parquet")
    client.log_artifact(run.run_id, str(tmp_path / "reference.parquet"))
    client.log_artifact(run.run_id, str(tmp_path / "reference.parquet"), "data/held-out")
    os.remove(tmp_path / "reference.parquet")
    client.create_registered_model("fraud")
    version = client.create_model_version("fraud", run.artifact_uri, run.run_id)
    client.set_registered_model_alias("fraud", "champion", version.version)
    client.create_model_version("fraud", run.artifact_uri)
    return env | {"RUN": run.run_id}


def test_a_baseline_from_an_artifact_of_a_registered_model(
    kedge_in: Kedge,
    registry: dict[str, str],
) -> None:
    create = ("baseline", "create", "fraud", "--label", "truth", "--json")
    made = kedge_in(*create, "--mlflow", "models:/fraud@champion", **registry).row
    assert (made["rows"], made["in_use"], made["phi"]) == (24 * 40, True, ["1h"])
    assert made["source"] == "file reference.parquet of MLflow's models:/fraud@champion, version 1"
    for uri in ("models:/fraud/1", f"runs:/{registry['RUN']}"):
        again = kedge_in(
            *create, "--mlflow", uri, "--artifact", "data/held-out/reference.parquet", **registry
        ).row
        assert (again["id"], again["rows"]) == (made["id"], made["rows"])


@pytest.mark.parametrize(
    ("uri", "artifact", "says"),
    [
        ("models:/fraud@nobody", "reference.parquet", "nobody"),
        ("models:/never/1", "reference.parquet", "never"),
        ("models:/fraud/2", "reference.parquet", "registered without a run"),
        ("models:/fraud@champion", "train.csv", "MLflow has no train.csv of models:/fraud@champion"),
        ("models:/fraud@champion", "data", "is a folder"),
        ("runs:/00000000000000000000000000000000", "reference.parquet", "MLflow has no reference.parquet"),
        ("fraud@champion", "reference.parquet", "write models:/NAME@ALIAS"),
    ],
)
def test_what_mlflow_lacks_is_told(registry: dict[str, str], uri: str, artifact: str, says: str) -> None:
    with pytest.raises(BadInput, match=says), artifact_of(uri, artifact):
        pass


def test_a_store_that_this_mlflow_cannot_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"ftp://{tmp_path.name}")
    with pytest.raises(BadInput, match="MLflow has no"), artifact_of("models:/fraud@champion", "x.csv"):
        pass


def test_without_mlflow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(KedgeError, match=r"pip install 'kedge\[mlflow\]'"), artifact_of("models:/a/1", "x"):
        pass
