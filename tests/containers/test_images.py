"""Contents, permissions and behaviour of the images, seen from inside."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli.local import ROOT
from tests.containers.engine import APPS, HARDENED_OPTIONS, docker

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

MEGABYTES = {"api": 200, "worker": 450}
"""Most that an image may hold over its base."""
ABSENT = {
    *("pandas", "scikit-learn", "scipy", "joblib", "skl2onnx", "onnx"),
    *("pytest", "hypothesis", "mypy", "ruff", "setuptools", "uv", "typer"),
}

LOOK_INSIDE = """
import hashlib, importlib.metadata, json, pathlib, shutil
app = pathlib.Path("/app")
venv = next(pathlib.Path("/venv/lib").glob("python3*")) / "site-packages"
sources = [path for path in app.rglob("*") if path.is_file() and path.suffix != ".pyc"]
print(json.dumps({
    "packages": [d.name.lower() for d in importlib.metadata.distributions()],
    "compilers": [name for name in ("cc", "gcc", "ld", "strip", "cargo") if shutil.which(name)],
    "caches": pathlib.Path("/root/.cache").exists(),
    "tests": [str(path) for path in venv.glob("numpy/**/tests")],
    "writable": [str(path) for path in [app, *app.rglob("*")] if path.stat().st_mode & 0o022],
    "bytecode": len([*app.rglob("*.pyc")]),
    "files": {
        str(path.relative_to(app)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sources
    },
}))
"""

LOOK_AT_OURSELVES = """
import json, os, pathlib
lines = pathlib.Path("/proc/1/status").read_text().splitlines()
status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
refused = []
for place in ("/app/x", "/app/artifact/x", "/tmp/x", "/venv/x", "/var/x"):
    try:
        open(place, "w")
    except OSError as error:
        refused.append(error.strerror)
print(json.dumps({
    "ids": status["Uid"].split() + status["Gid"].split(),
    "capabilities": [name for name in status if name.startswith("Cap") and int(status[name], 16)],
    "no_new_privileges": status["NoNewPrivs"],
    "command": pathlib.Path("/proc/1/cmdline").read_text().split("\\0")[:-1],
    "refused": refused,
}))
"""


@pytest.fixture(scope="module", params=APPS)
def app(request: pytest.FixtureRequest, images: dict[str, str]) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def config(app: str, images: dict[str, str]) -> dict[str, Any]:
    [image] = json.loads(docker("image", "inspect", images[app]).stdout)
    found: dict[str, Any] = image["Config"]
    return found


@pytest.fixture(scope="module")
def inside(images: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Contents of each image, as root, who sees everything."""
    return {
        app: json.loads(
            docker("run", "--rm", "--user", "0", image, "python", "-c", LOOK_INSIDE).stdout
        )
        for app, image in images.items()
    }


def test_the_image_holds_no_package_that_serving_does_not_need(
    app: str, inside: dict[str, dict[str, Any]]
) -> None:
    packages = set(inside[app]["packages"])

    assert {"onnxruntime", "azure-storage-blob", "numpy"} <= packages
    assert packages & ABSENT == set()
    assert ("polars" in packages) == (app == "worker")
    assert ("fastapi" in packages) == (app == "api")


def test_the_image_holds_the_apps_code_and_the_artifact_and_nothing_else(
    app: str, inside: dict[str, dict[str, Any]]
) -> None:
    found = inside[app]
    ours = {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (app, "shared")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    artifact = {name for name in found["files"] if name.startswith("artifact/")}

    assert found["files"].items() >= ours.items()
    assert set(found["files"]) - set(ours) - artifact == {"start"}
    names = ("manifest.json", "model.onnx", "explain.onnx", "model_card.html", "template.xlsx")
    assert artifact == {f"artifact/{name}" for name in names}
    assert (found["compilers"], found["caches"], found["tests"]) == ([], False, [])
    assert found["writable"] == []
    assert found["bytecode"] == sum(name.endswith(".py") for name in ours)


def test_both_images_hold_the_same_shared_code_and_the_same_model(
    inside: dict[str, dict[str, Any]],
) -> None:
    api, worker = (
        {
            name: digest
            for name, digest in inside[app]["files"].items()
            if name.startswith(("shared/", "artifact/"))
        }
        for app in APPS
    )

    assert api == worker


def test_the_image_is_small(app: str, images: dict[str, str]) -> None:
    done = docker("run", "--rm", "--user", "0", images[app], "du", "-smc", "/venv", "/app")

    assert int(done.stdout.splitlines()[-1].split()[0]) <= MEGABYTES[app]


def test_the_image_says_what_it_is_and_how_it_runs(app: str, config: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = {k.removeprefix("org.opencontainers.image."): v for k, v in config["Labels"].items()}

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/app/start"]
    assert config["Cmd"] == ["python", "-m", app]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert labels["title"] == f"heart-scorer-{app}"
    assert labels["version"] == version
    assert {"description", "licenses", "revision"} <= set(labels)


def test_the_runtime_reports_to_nobody(config: dict[str, Any]) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in config["Env"]


def test_both_images_hold_the_same_model(images: dict[str, str]) -> None:
    show = ("--rm", "--entrypoint", "sha256sum")
    hashes = {docker("run", *show, images[app], "artifact/manifest.json").stdout for app in APPS}

    assert len(hashes) == 1


def test_another_manifest_than_the_one_that_was_built_stops_the_start(
    app: str, images: dict[str, str]
) -> None:
    change = f"echo >> artifact/manifest.json && exec /app/start python -m {app}"
    options = ("--rm", "--user", "0", "--env", "SCORER_API_KEYS=none", "--entrypoint", "sh")

    done = docker("run", *options, images[app], "-c", change, check=False)

    assert done.returncode == 3
    assert "SCORER_MODEL_SHA256 asks for" in done.stderr


def test_the_api_does_not_open_to_everyone_by_itself(images: dict[str, str]) -> None:
    done = docker("run", "--rm", *HARDENED_OPTIONS, images["api"], check=False)

    assert done.returncode == 3
    assert "SCORER_API_KEYS must be set" in done.stderr


def test_the_process_has_no_rights_that_it_does_not_need_and_ends_when_asked(
    app: str, images: dict[str, str], config: dict[str, Any]
) -> None:
    check = config["Healthcheck"]["Test"][1:]
    # No storage there: the worker lives, and is not ready.
    storage = "DefaultEndpointsProtocol=http;AccountName=nobody;AccountKey=bm9ib2R5;" + "".join(
        f"{kind}Endpoint=http://127.0.0.1:1/nobody;" for kind in ("Blob", "Queue")
    )
    options = [
        *("--detach", *HARDENED_OPTIONS),
        *("--env", "SCORER_API_KEYS=none", "--env", "SCORER_IDLE_SECONDS=0.3"),
        *("--env", f"AZURE_STORAGE_CONNECTION_STRING={storage}"),
    ]
    container = docker("run", *options, images[app]).stdout.strip()
    try:
        _until_it_logs(container, "api_started" if app == "api" else "storage_not_ready")
        found = json.loads(docker("exec", container, "python", "-c", LOOK_AT_OURSELVES).stdout)
        healthy = docker("exec", container, *check, check=False).returncode == 0
        docker("stop", "--time", "60", container)
        [state] = json.loads(docker("inspect", container).stdout)
    finally:
        docker("rm", "--force", "--volumes", container)

    assert found == {
        "ids": ["10001"] * 8,
        "capabilities": [],
        "no_new_privileges": "1",
        "command": ["python", "-m", app],
        "refused": ["Read-only file system"] * 5,
    }
    assert healthy == (app == "api")
    assert state["State"]["ExitCode"] == 0


def _until_it_logs(container: str, event: str) -> None:
    for _ in range(1200):
        logs = docker("logs", container)
        if event in logs.stdout + logs.stderr:
            return
        time.sleep(0.1)
    raise AssertionError(f"no {event} in\n{logs.stdout}{logs.stderr}")


def test_an_image_can_hold_a_model_that_was_trained_elsewhere(
    images: dict[str, str], artifact_dir: Path, tmp_path: Path
) -> None:
    for name in ("api", "shared", "training", "worker", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile.worker", ".dockerignore"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(artifact_dir, tmp_path / "artifact")
    given = (tmp_path / "artifact" / "manifest.json").read_bytes()
    tag = "heart-scorer-worker:given-model"

    docker(
        *("build", "--quiet", "--file", str(tmp_path / "Dockerfile.worker")),
        *("--build-arg", "ARTIFACT=artifact", "--tag", tag, str(tmp_path)),
        seconds=800,
    )

    try:
        held = docker("run", "--rm", tag, "cat", "artifact/manifest.json").stdout
    finally:
        docker("image", "rm", "--force", tag)
    assert held.encode() == given


@pytest.mark.parametrize("app", APPS)
def test_an_image_with_lightgbm_loads_its_model(app: str, engine: None) -> None:
    tag = f"heart-scorer-{app}:lightgbm"
    arguments = ("MODEL=training/examples/heart_lightgbm.py", "EXTRA=lightgbm")
    options = [word for one in arguments for word in ("--build-arg", one)]

    # The build ends by loading the model.
    docker(
        *("build", "--quiet", "--file", f"Dockerfile.{app}", "--tag", tag, *options, "."),
        seconds=800,
    )

    docker("image", "rm", "--force", tag)
