"""The templates' own promises, and their agreement with the apps, compose and the docs.

Nothing here reaches Azure: the templates are read as text, with small patterns that rely on
their regular form. The type checker is used where it lies beside the repository.
"""

import importlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.settings import variable_of

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
ENTRY = (INFRA / "containerapps.bicep").read_text()
MODULES = {path.stem: path.read_text() for path in sorted((INFRA / "modules").glob("*.bicep"))}
ALL = {"containerapps": ENTRY, **MODULES}
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
SCALING = (ROOT / "docs" / "scaling.md").read_text()
CHECKER = ROOT.parent / "shared" / "bicep" / "check"

APP_MODULES = ("api", "worker")
CONTAINERS = {"incoming", "uploads", "scores", "dead-letters"}

# Azure's built-in roles, by the names the template gives them.
BUILT_IN = {
    "blobContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "blobReader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "queueContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "queueReader": "19e7f393-937e-4f77-808e-94535e297925",
    "queueSender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
}
GRANTS = {
    ("api", "queueSender", "queue"),
    ("api", "blobContributor", "uploads"),
    ("api", "blobReader", "scores"),
    ("worker", "workerQueueRole", "queue"),
    ("worker", "queueSender", "poisonQueue"),
    ("worker", "blobReader", "incoming"),
    ("worker", "blobReader", "uploads"),
    ("worker", "blobContributor", "scores"),
    ("platform", "queueReader", "queue"),
    ("topic", "queueSender", "account"),
    ("topic", "blobContributor", "dead-letters"),
    ("operator", "blobContributor", "account"),
    ("operator", "queueContributor", "account"),
}
# keda.sh, scaler azure-queue: what its metadata may hold.
KEDA_KEYS = {
    "accountName",
    "activationQueueLength",
    "cloud",
    "connectionFromEnv",
    "endpointSuffix",
    "queueLength",
    "queueLengthStrategy",
    "queueName",
}


def declarations(text: str, kind: str) -> Iterator[tuple[str, str, str]]:
    """Yield decorators, name and the rest of the line of each param or output."""
    pattern = rf"((?:^@.*\n)*)^{kind} (\w+) (.*)$"
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield match[1], match[2], match[3]


def names(text: str, kind: str) -> set[str]:
    return {name for _, name, _ in declarations(text, kind)}


def block(text: str, opening: str) -> str:
    """Return the braces (or brackets) that follow the first occurrence of `opening`."""
    start = text.index(opening) + len(opening)
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[at], 0)
        if depth == 0 and text[at] in "}]":
            return text[start : at + 1]
    raise ValueError(opening)


def settings_block(app: str) -> set[str]:
    return set(re.findall(r"name: '([A-Z_]+)'", MODULES[app]))


def code(*folders: str) -> str:
    """Return the source of these packages."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(path.read_text() for path in files)


def settings_class(name: str) -> Any:
    return getattr(importlib.import_module("shared.settings"), name)


def variables(settings: Any) -> dict[str, Any]:
    """Map each environment variable that a settings class reads to its field."""
    return {variable_of(name): field for name, field in settings.model_fields.items()}


def default_of(settings: Any, variable: str) -> Any:
    return variables(settings)[variable].get_default(call_default_factory=True)


# --- the templates alone ---------------------------------------------------------------------


def test_the_templates_hold_against_the_type_definitions() -> None:
    if not CHECKER.exists():
        pytest.skip("the Bicep checker is not beside the repository; run az bicep build and lint")

    done = subprocess.run(
        [sys.executable, CHECKER, "--strict", "--json", INFRA],
        capture_output=True,
        text=True,
        check=False,
    )

    assert json.loads(done.stdout) == []
    assert done.returncode == 0


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_and_output_is_described(name: str) -> None:
    for kind in ("param", "output"):
        for decorators, declared, _ in declarations(ALL[name], kind):
            assert "@description('" in decorators, f"{kind} {declared} of {name}"

    assert ALL[name].startswith("metadata description = '")


def test_every_number_asked_of_the_user_has_limits() -> None:
    for decorators, name, rest in declarations(ENTRY, "param"):
        if rest.startswith("int"):
            assert "@minValue(" in decorators, name
            assert "@maxValue(" in decorators, name


def test_only_the_keys_of_the_api_are_asked_for_and_they_are_a_secret() -> None:
    required = {name for _, name, rest in declarations(ENTRY, "param") if "=" not in rest}
    secret = {
        name for decorators, name, _ in declarations(ENTRY, "param") if "@secure" in decorators
    }

    assert required == secret == {"apiKeys"}


@pytest.mark.parametrize("name", ALL)
def test_no_key_is_read_and_no_secret_given_out(name: str) -> None:
    assert not re.search(r"list\w*\(|AccountKey|sharedKey:|SharedAccess|password", ALL[name])
    for _, declared, rest in declarations(ALL[name], "output"):
        assert not re.search(r"[Kk]eys?\b|[Ss]ecret|ConnectionString|password", rest), declared


def test_the_storage_account_is_closed_to_keys_and_strangers() -> None:
    for line in (
        "allowSharedKeyAccess: false",
        "allowBlobPublicAccess: false",
        "defaultToOAuthAuthentication: true",
        "minimumTlsVersion: 'TLS1_2'",
        "supportsHttpsTrafficOnly: true",
        "publicAccess: 'None'",
        "deleteRetentionPolicy: { enabled: true, days: 7 }",
        "containerDeleteRetentionPolicy: { enabled: true, days: 7 }",
    ):
        assert line in MODULES["storage"], line


def test_names_that_must_be_unique_in_the_world_are() -> None:
    assert "var unique = uniqueString(resourceGroup().id, namePrefix)" in ENTRY
    assert "var compactName = '${toLower(replace(namePrefix, '-', ''))}${unique}'" in ENTRY
    assert block(ENTRY, "module storage ").count("take(compactName, 24)") == 1
    assert block(ENTRY, "module registry ").count("name: compactName") == 1


def test_a_resource_type_has_one_version_in_all_templates() -> None:
    versions: dict[str, set[str]] = {}
    for text in ALL.values():
        for kind, version in re.findall(r"'(Microsoft\.[\w./]+)@([\w-]+)'", text):
            versions.setdefault(kind, set()).add(version)

    previews = {kind for kind, found in versions.items() if "preview" in "".join(found)}

    assert {kind: found for kind, found in versions.items() if len(found) > 1} == {}
    assert previews == {"Microsoft.Insights/diagnosticSettings"}  # never had a stable version


def test_the_roles_are_exactly_these() -> None:
    access = MODULES["access"]
    pattern = (
        r"\{ to: (\w+?)PrincipalId, (?:type: [\w']+, )?role: (?:roles\.)?(\w+)"
        r"(?:, (?:queue: (\w+)Name|container: '([\w-]+)'))? \}"
    )

    found = {
        (who, role, queue or container or "account")
        for who, role, queue, container in re.findall(pattern, access)
    }

    assert found == GRANTS
    assert len(re.findall(r"\bto: \w+PrincipalId", access)) == len(GRANTS)
    assert dict(re.findall(r"^  (\w+): '([0-9a-f-]{36})'$", access, re.MULTILINE)) == BUILT_IN


def test_the_worker_may_renew_messages_with_either_role() -> None:
    access = MODULES["access"]
    custom = block(access, "dataActions: ")

    assert "narrowWorkerRole ? queueWorkerRole : roles.queueContributor" in access
    for action in ("read", "write", "process/action"):
        assert f"/queues/messages/{action}'" in custom, action
    assert "delete" not in custom
    assert "queueServices/queues/read'" in block(access, "        actions: ")


@pytest.mark.parametrize("app", APP_MODULES)
def test_the_platform_identity_pulls_the_image_and_stays_out_of_the_container(app: str) -> None:
    text = MODULES[app]

    assert "identitySettings: [{ identity: platformIdentityId, lifecycle: 'None' }]" in text
    assert "registries: [{ server: registryServer, identity: platformIdentityId }]" in text
    assert "{ name: 'AZURE_CLIENT_ID', value: identityClientId }" in text


def test_the_scale_rule_says_what_keda_understands() -> None:
    rule = block(MODULES["worker"], "rules: ")
    metadata = dict(re.findall(r"^\s+(\w+): ([^{\n]+)$", block(rule, "metadata: "), re.MULTILINE))

    assert "type: 'azure-queue'" in rule
    assert "identity: platformIdentityId" in rule
    assert set(metadata) <= KEDA_KEYS
    assert metadata == {
        "accountName": "storageName",
        "queueName": "queueName",
        "queueLength": "string(queueLength)",  # KEDA takes text only
        "queueLengthStrategy": "'all'",
    }


def test_the_worker_scales_from_zero_in_one_revision_without_ingress() -> None:
    worker = MODULES["worker"]

    for line in (
        "activeRevisionsMode: 'Single'",
        "minReplicas: 0",
        "maxReplicas: maxReplicas",
        "pollingInterval: 15",
        "cooldownPeriod: 300",
    ):
        assert line in worker, line
    assert "ingress" not in block(worker, "configuration: ")


@pytest.mark.parametrize(("app", "port"), [("api", "port"), ("worker", "healthPort")])
def test_an_app_is_probed_for_life_and_readiness(app: str, port: str) -> None:
    probes = block(MODULES[app], "probes: ")

    found = re.findall(r"type: '(\w+)'\s+httpGet: \{ path: '([\w/]+)', port: (\w+) \}", probes)

    assert sorted(found) == [
        ("Liveness", "/livez", port),
        ("Readiness", "/readyz", port),
        ("Startup", "/livez", port),
    ]


def test_every_container_and_queue_that_is_named_is_created() -> None:
    storage = MODULES["storage"]
    expired = block(storage, "prefixMatch: ")

    assert set(re.findall(r"'([\w-]+)'", block(storage, "var containerNames = "))) == CONTAINERS
    assert set(re.findall(r"'([\w-]+)/'", expired)) == CONTAINERS
    assert set(re.findall(r"container: '([\w-]+)'", MODULES["access"])) == CONTAINERS
    assert "queueNames: [queueName, poisonQueueName]" in ENTRY
    assert "var poisonQueueName = '${queueName}-poison'" in ENTRY


def test_a_dropped_file_becomes_a_message_that_never_expires() -> None:
    subscription = MODULES["subscription"]

    assert "includedEventTypes: ['Microsoft.Storage.BlobCreated']" in subscription
    assert "'/blobServices/default/containers/incoming/'" in subscription
    assert "queueMessageTimeToLiveInSeconds: -1" in subscription
    assert "blobContainerName: 'dead-letters'" in subscription
    assert subscription.count("identity: { type: 'SystemAssigned' }") == 2


def test_roles_come_before_what_needs_them() -> None:
    for module in ("subscription", "api", "worker"):
        start = ENTRY.index(f"module {module} ")
        end = ENTRY.find("\nmodule ", start)

        assert "dependsOn: [access]" in ENTRY[start:end], module


# --- the templates and the apps --------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "settings", "required"),
    [
        (
            "api",
            "ApiSettings",
            {"AZURE_CLIENT_ID", "SCORER_STORAGE_ACCOUNT", "SCORER_QUEUE", "SCORER_API_KEYS"},
        ),
        (
            "worker",
            "WorkerSettings",
            {"AZURE_CLIENT_ID", "SCORER_STORAGE_ACCOUNT", "SCORER_QUEUE", "SCORER_SLOTS"},
        ),
    ],
)
def test_the_settings_of_an_app_are_settings_it_knows(
    app: str, settings: str, required: set[str]
) -> None:
    known = variables(settings_class(settings))
    given = settings_block(app)
    given.discard("APPLICATIONINSIGHTS_CONNECTION_STRING")  # for an exporter, not for the app

    assert given == required
    assert given <= set(known)
    assert {name for name, field in known.items() if field.is_required()} <= given


def test_what_the_template_leaves_unset_has_the_value_it_counts_on() -> None:
    api, worker = settings_class("ApiSettings"), settings_class("WorkerSettings")
    grace = int(re.findall(r"terminationGracePeriodSeconds: (\d+)", MODULES["worker"])[0])

    assert f"var port = {default_of(api, 'SCORER_PORT')}\n" in MODULES["api"]
    assert f"var healthPort = {default_of(worker, 'SCORER_HEALTH_PORT')}\n" in MODULES["worker"]
    assert f"param slots int = {default_of(worker, 'SCORER_SLOTS')}\n" in ENTRY
    assert default_of(worker, "SCORER_GRACE_SECONDS") + 30 <= grace
    for settings in (api, worker):
        assert f"param queueName string = '{default_of(settings, 'SCORER_QUEUE')}'\n" in ENTRY


@pytest.mark.parametrize("app", APP_MODULES)
def test_the_app_serves_what_the_probes_ask_for(app: str) -> None:
    asked = set(re.findall(r"httpGet: \{ path: '/([\w/]+)'", MODULES[app]))

    source = code(app)

    for path in asked:
        assert re.search(rf"""["']/?{path}["']""", source), path


def test_the_code_uses_the_containers_and_the_poison_queue_of_the_template() -> None:
    source = code("api", "worker", "shared")

    assert "-poison" in source
    for container in CONTAINERS - {"dead-letters"}:
        assert f'"{container}"' in source, container


def test_compose_uses_the_same_ports_and_queue() -> None:
    text = (ROOT / "docker-compose.yml").read_text()

    queues = set(re.findall(r"SCORER_QUEUE[:=]\s*\"?([\w-]+)", text))

    assert queues <= {"patient-batches"}
    assert re.search(r":8000\b", text)
    assert "heart-scorer-api" in text
    assert "heart-scorer-worker" in text


def test_the_images_are_built_from_files_that_exist() -> None:
    files = sorted(path.name for path in ROOT.glob("Dockerfile.*"))

    assert {"Dockerfile.api", "Dockerfile.worker"} <= set(files)


def test_the_images_can_be_built_in_the_registry_which_has_no_buildkit() -> None:
    for path in ROOT.glob("Dockerfile.*"):
        assert not re.search(r"^RUN --|--link|--chmod|<<", path.read_text(), re.MULTILINE), (
            path.name
        )


# --- the templates and the docs --------------------------------------------------------------


def test_the_page_explains_every_parameter() -> None:
    table = DEPLOY[DEPLOY.index("## Parameters") : DEPLOY.index("### Who may do what")]
    explained = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }

    assert explained == names(ENTRY, "param")


def test_the_commands_of_the_page_use_parameters_and_outputs_that_exist() -> None:
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", DEPLOY, re.DOTALL))
    lines = [line for line in shell.splitlines() if re.match(r"deploy\b|az deployment", line)]
    given = {name for line in lines for name in re.findall(r"\b(\w+)=", line)}
    asked = set(re.findall(r"\$\(out (\w+)\)", shell))

    assert given
    assert given <= names(ENTRY, "param")
    assert asked
    assert asked <= names(ENTRY, "output")


@pytest.mark.parametrize("page", ["deploy", "scaling"])
def test_the_commands_of_the_pages_are_shell(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()

    for commands in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        subprocess.run(["bash", "-n"], input=commands, text=True, check=True)


def test_the_page_names_every_alert() -> None:
    alerts = set(
        re.findall(
            r"name: '(?:\$\{namePrefix\}-)?((?:api|worker|event|message)-[\w-]+)'",
            MODULES["alerts"],
        )
    )
    table = DEPLOY[DEPLOY.index("| alert |") : DEPLOY.index("The length of one queue")]
    told = set(re.findall(r"\b(?:api|worker|event|message)-[a-z-]+", table))

    assert told == alerts


def test_the_page_of_the_api_sends_the_key_as_the_api_reads_it() -> None:
    [header] = set(re.findall(r'-H "([\w-]+): \$KEY"', DEPLOY))

    assert header.lower() in code("api").lower()


def test_azd_provisions_this_template_with_parameters_it_has() -> None:
    azure_yaml = (ROOT / "azure.yaml").read_text()
    parameters = json.loads((INFRA / "containerapps.parameters.json").read_text())["parameters"]
    hook = ROOT / re.findall(r"run: (\S+)", azure_yaml)[0]

    assert "module: containerapps" in azure_yaml
    assert set(parameters) <= names(ENTRY, "param")
    assert "apiKeys" not in parameters  # azd asks for it, and no file holds it
    assert hook.stat().st_mode & 0o111
    assert set(re.findall(r"\$\{?(registry\w+)", hook.read_text())) <= names(ENTRY, "output")


def test_the_table_of_replicas_is_what_the_formula_gives() -> None:
    rows = [
        line for line in SCALING.splitlines() if line.startswith(("| messages |", "| replicas |"))
    ]
    messages, replicas = (
        [int(cell.strip().replace(",", "")) for cell in row.split("|")[2:-1]] for row in rows
    )

    expected = [min(10, math.ceil(count / 4)) for count in messages]

    assert replicas == expected


def test_the_drawing_is_what_the_simulation_draws(tmp_path: Path) -> None:
    script = ROOT / "tests" / "benchmarks" / "simulate_scaling.py"
    drawing = tmp_path / "scaling.svg"

    subprocess.run([sys.executable, script, "--svg", drawing], check=True, capture_output=True)

    assert drawing.read_text() == (ROOT / "docs" / "scaling.svg").read_text()
