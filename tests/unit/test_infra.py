"""The resources of the templates, and whether they agree with the apps, compose and the docs.

Nothing here reaches Azure. Most tests read the two snapshots, in which the compiler has expanded
the whole deployment of a parameter file; some need the compiler itself (`az bicep install`).
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.settings import variable_of
from tests.templates import DEPLOYMENTS, INFRA, Resource, every, grants

ROOT = Path(__file__).parents[2]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
AZURE = (ROOT / "docs" / "azure.md").read_text()
ACCESS = (ROOT / "docs" / "access.md").read_text()
SCALING = (ROOT / "docs" / "scaling.md").read_text()

EVERY = [(name, resource) for name, resources in DEPLOYMENTS.items() for resource in resources]
APPS = ("api", "worker")
CONTAINERS = {"incoming", "uploads", "scores", "workers", "dead-letters"}

GRANTS = {
    ("api", "queue sender", "patient-batches"),
    ("api", "blob contributor", "uploads"),
    ("api", "blob contributor", "scores"),
    ("worker", "queue contributor", "patient-batches"),
    ("worker", "queue sender", "patient-batches-poison"),
    ("worker", "queue contributor", "patient-batches-parts"),
    ("worker", "queue sender", "patient-batches-parts"),
    ("worker", "blob reader", "incoming"),
    ("worker", "blob reader", "uploads"),
    ("worker", "blob contributor", "scores"),
    ("worker", "blob contributor", "workers"),
    ("worker", "queue reader", "patient-batches-poison"),
    ("platform", "queue reader", "patient-batches"),
    ("platform", "queue reader", "patient-batches-parts"),
    ("platform", "pull images", "registry"),
    ("topic", "queue sender", "account"),
    ("topic", "blob contributor", "dead-letters"),
    ("operator", "blob contributor", "account"),
    ("operator", "queue contributor", "account"),
}
# Names that Azure accepts: shortest, longest, characters.
NAMES = {
    "Microsoft.App/containerApps": r"[a-z][a-z0-9-]{1,31}",
    "Microsoft.App/managedEnvironments": r"[a-zA-Z][\w-]{1,59}",
    "Microsoft.Authorization/roleAssignments": r"[0-9a-f-]{36}",
    "Microsoft.Authorization/roleDefinitions": r"[0-9a-f-]{36}",
    "Microsoft.ContainerRegistry/registries": r"[a-zA-Z0-9]{5,50}",
    "Microsoft.EventGrid/systemTopics": r"[a-zA-Z0-9-]{3,50}",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": r"[a-zA-Z0-9-]{3,64}",
    "Microsoft.Insights/actionGroups": r"[\w-]{1,260}",
    "Microsoft.Insights/diagnosticSettings": r"[\w-]{1,260}",
    "Microsoft.Insights/metricAlerts": r"[\w-]{1,260}",
    "Microsoft.Insights/scheduledQueryRules": r"[\w-]{1,260}",
    "Microsoft.Insights/workbooks": r"[0-9a-f-]{36}",
    "Microsoft.ManagedIdentity/userAssignedIdentities": r"[a-zA-Z0-9][\w-]{2,127}",
    "Microsoft.Network/networkSecurityGroups": r"[\w-]{2,80}",
    "Microsoft.Network/privateDnsZones": r"[a-z0-9.-]{1,63}",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": r"[\w-]{1,80}",
    "Microsoft.Network/privateEndpoints": r"[\w-]{2,64}",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": r"[\w-]{1,80}",
    "Microsoft.Network/virtualNetworks": r"[\w-]{2,64}",
    "Microsoft.OperationalInsights/workspaces": r"[a-zA-Z0-9-]{4,63}",
    "Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}",
    "Microsoft.Storage/storageAccounts/blobServices": "default",
    "Microsoft.Storage/storageAccounts/blobServices/containers": r"[a-z0-9-]{3,63}",
    "Microsoft.Storage/storageAccounts/managementPolicies": "default",
    "Microsoft.Storage/storageAccounts/queueServices": "default",
    "Microsoft.Storage/storageAccounts/queueServices/queues": r"[a-z0-9-]{3,63}",
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


def only(deployment: str, kind: str) -> Any:
    """The properties of the only resource of a type."""
    [resource] = every(deployment, kind)
    return resource["properties"]


def app(name: str, deployment: str = "prod") -> Any:
    """The properties of one container app."""
    apps = every(deployment, "App/containerApps")
    [found] = [each for each in apps if each["name"].endswith(f"-{name}")]
    return found["properties"]


def container(name: str) -> Any:
    """The only container of an app."""
    [found] = app(name)["template"]["containers"]
    return found


def unresolved(name: str) -> bool:
    """Whether a name is an expression that only Azure can compute."""
    return name.startswith("[")


def settings_class(name: str) -> Any:
    return getattr(importlib.import_module("shared.settings"), name)


def variables(settings: Any) -> dict[str, Any]:
    """Map each environment variable that a settings class reads to its field."""
    return {variable_of(name): field for name, field in settings.model_fields.items()}


def default_of(settings: Any, variable: str) -> Any:
    return variables(settings)[variable].get_default(call_default_factory=True)


@pytest.fixture(scope="module")
def path_with_bicep() -> str:
    """A PATH on which `bicep` is."""
    path = os.pathsep.join([os.environ["PATH"], str(Path.home() / ".azure" / "bin")])
    if shutil.which("bicep", path=path) is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs the Bicep compiler: put bicep on the PATH")
        pytest.skip("the Bicep compiler is not installed: az bicep install")
    return path


@pytest.fixture(scope="module")
def bicep(path_with_bicep: str) -> Any:
    """Run the Bicep compiler and return what it did."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bicep", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": path_with_bicep},
        )

    return run


@pytest.fixture(scope="module")
def template(bicep: Any) -> Any:
    """The compiled template."""
    done = bicep("build", INFRA / "containerapps.bicep", "--stdout")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- the compiler ----------------------------------------------------------------------------


def test_the_linter_has_nothing_to_say(bicep: Any) -> None:
    done = bicep("lint", INFRA / "containerapps.bicep")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_templates_are_formatted(bicep: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(INFRA, tmp_path / "infra")

    done = bicep("format", "--pattern", f"{copy}/**/*.bicep*")

    assert done.returncode == 0, done.stderr
    written = sorted(path for path in INFRA.rglob("*") if path.suffix in (".bicep", ".bicepparam"))
    assert written
    for path in written:
        assert (copy / path.relative_to(INFRA)).read_text() == path.read_text(), path.name


def test_the_snapshots_are_what_the_parameter_files_deploy(path_with_bicep: str) -> None:
    done = subprocess.run(
        [INFRA / "snapshot.sh", "validate"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path_with_bicep},
    )

    assert done.returncode == 0, (
        f"{done.stdout}{done.stderr}\nIf the change is intended: infra/snapshot.sh overwrite"
    )


@pytest.mark.slow
def test_values_that_do_not_fit_together_stop_the_deployment(bicep: Any, tmp_path: Path) -> None:
    shutil.copytree(INFRA, tmp_path / "infra")
    file = tmp_path / "infra" / "mistakes.bicepparam"
    file.write_text(
        """
        using 'containerapps.bicep'
        param apiKeys = 'none'
        param namePrefix = 'Heart'
        param apiAccess = 'network'
        param zoneRedundant = true
        """
    )

    done = bicep("snapshot", file, "--mode", "overwrite", "--resource-group", "group")

    assert done.returncode != 0
    for parameter in ("namePrefix", "apiAccess", "zoneRedundant"):
        assert f"{parameter}: " in done.stdout + done.stderr


SHARED = "/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/shared/providers"
NETWORK = f"{SHARED}/Microsoft.Network/virtualNetworks/hospital"
HOSPITAL = f"""
using 'containerapps.bicep'
param apiKeys = 'none'
param imageTag = 'golden'
param privateNetwork = true
param apiAccess = 'network'
param applicationInsights = true
param storageDnsZones = false
param existingWorkspaceId = '{SHARED}/Microsoft.OperationalInsights/workspaces/central'
param existingAppsSubnetId = '{NETWORK}/subnets/apps'
param existingEndpointsSubnetId = '{NETWORK}/subnets/ends'
param registryName = 'hospitalregistry'
param registryResourceGroup = 'shared'
param registryUsesAbac = true
param topicName = 'made-by-defender'
param allowedAddresses = ['203.0.113.0/24']
param customDomains = [{{ name: 'scores.example.org', bindingType: 'Disabled' }}]
"""


@pytest.mark.slow
def test_a_hospital_can_bring_its_network_workspace_registry_topic_and_domain(
    bicep: Any, tmp_path: Path
) -> None:
    shutil.copytree(INFRA, tmp_path / "infra")
    file = tmp_path / "infra" / "hospital.bicepparam"
    file.write_text(HOSPITAL)

    done = bicep(
        *("snapshot", file, "--mode", "overwrite", "--resource-group", "group"),
        *("--subscription-id", "00000000-0000-0000-0000-000000000001"),
        *("--deployment-name", "hospital", "--location", "westeurope"),
    )

    assert done.returncode == 0, done.stderr
    resources = json.loads(file.with_suffix(".snapshot.json").read_text())["predictedResources"]
    by_type = {resource["type"]: resource for resource in resources}
    [api] = [
        each
        for each in resources
        if (each["type"], each["name"]) == ("Microsoft.App/containerApps", "heart-api")
    ]
    environment = by_type["Microsoft.App/managedEnvironments"]["properties"]
    ingress = api["properties"]["configuration"]["ingress"]
    assert {
        "Microsoft.OperationalInsights/workspaces",
        "Microsoft.Network/virtualNetworks",
        "Microsoft.ContainerRegistry/registries",
    } & set(by_type) == set()
    assert by_type["Microsoft.EventGrid/systemTopics"]["name"] == "made-by-defender"
    assert environment["vnetConfiguration"] == {
        "infrastructureSubnetId": f"{NETWORK}/subnets/apps",
        "internal": True,
    }
    assert environment["openTelemetryConfiguration"] == {
        "tracesConfiguration": {"destinations": ["appInsights"]}
    }
    assert ingress["customDomains"] == [{"name": "scores.example.org", "bindingType": "Disabled"}]
    assert [rule["ipAddressRange"] for rule in ingress["ipSecurityRestrictions"]] == [
        "203.0.113.0/24"
    ]
    [container] = api["properties"]["template"]["containers"]
    assert {"name": "SCORER_PUBLIC_URL", "value": "https://scores.example.org"} in container["env"]
    pulls = [each for each in resources if "hospitalregistry" in each["id"]]
    assert "b93aa761-3e63-49ed-ac28-beffa264f7ac" in pulls[0]["properties"]["roleDefinitionId"]


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_compiler_could_expand_every_module(deployment: str) -> None:
    snapshot = json.loads((INFRA / f"{deployment}.snapshot.json").read_text())

    assert snapshot["diagnostics"] == []  # NestedDeploymentShortCircuited would be here


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_no_id_appears_twice(deployment: str) -> None:
    ids = Counter(resource["id"].lower() for resource in DEPLOYMENTS[deployment])

    assert [identifier for identifier, count in ids.items() if count > 1] == []


@pytest.mark.parametrize(("deployment", "resource"), EVERY)
def test_every_name_is_known_and_one_that_azure_accepts(
    deployment: str, resource: Resource
) -> None:
    kind, name = resource["type"], resource["name"].rsplit("/", 1)[-1]

    if kind == "Microsoft.Authorization/roleAssignments" and unresolved(resource["name"]):
        return  # holds the object id, so that an identity created again gets a new assignment
    if "privateDnsZones" in kind and ".defaultDomain" in resource["name"]:
        return  # the zone of an internal environment has a domain that Azure chooses

    assert not unresolved(resource["name"])
    assert re.fullmatch(NAMES[kind], name), f"{kind} {name} of {deployment}"


# --- security --------------------------------------------------------------------------------


def test_the_roles_are_exactly_these() -> None:
    assert grants("dev") == GRANTS


def test_the_worker_can_have_a_narrower_role_on_its_queue() -> None:
    [permissions] = only("prod", "Authorization/roleDefinitions")["permissions"]

    queues = ("patient-batches", "patient-batches-parts")
    assert grants("prod") == (
        GRANTS - {("worker", "queue contributor", queue) for queue in queues}
    ) | {
        *(("worker", "custom", queue) for queue in queues),
        ("platform", "read the secret", "heart-scorer-api-keys"),
    }
    assert {action.rsplit("/queues/")[1] for action in permissions["dataActions"]} == {
        "messages/read",
        "messages/write",  # renewing a message
        "messages/process/action",
    }
    assert [action.rsplit("/queues/")[1] for action in permissions["actions"]] == ["read"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_storage_account_is_closed_to_keys_and_strangers(deployment: str) -> None:
    account = only(deployment, "Storage/storageAccounts")
    blobs = only(deployment, "Storage/storageAccounts/blobServices")

    assert account["allowSharedKeyAccess"] is False
    assert account["allowBlobPublicAccess"] is False
    assert account["defaultToOAuthAuthentication"] is True
    assert account["supportsHttpsTrafficOnly"] is True
    assert account["minimumTlsVersion"] == "TLS1_2"
    assert account["networkAcls"]["defaultAction"] == ("Deny" if deployment == "prod" else "Allow")
    assert blobs["deleteRetentionPolicy"] == {"enabled": True, "days": 7}
    assert blobs["containerDeleteRetentionPolicy"] == {"enabled": True, "days": 7}
    for each in every(deployment, "Storage/storageAccounts/blobServices/containers"):
        assert each["properties"]["publicAccess"] == "None"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_no_key_is_read_or_written_down(deployment: str) -> None:
    text = (INFRA / f"{deployment}.snapshot.json").read_text()

    assert not re.search(r"list\w*\(|AccountKey|SharedAccess|golden-key", text)


def test_production_is_reached_from_its_network_only() -> None:
    environment = only("prod", "App/managedEnvironments")
    zones = every("prod", "Network/privateDnsZones/A")

    assert environment["vnetConfiguration"]["internal"] is True
    assert environment["zoneRedundant"] is True
    assert app("api")["configuration"]["ingress"]["external"] is True  # outside the environment
    assert ".staticIp" in zones[0]["properties"]["aRecords"][0]["ipv4Address"]
    assert app("api", "dev")["configuration"]["ingress"]["external"] is True
    assert only("dev", "App/managedEnvironments")["vnetConfiguration"] is None


def test_both_subnets_deny_the_way_to_remote_consoles() -> None:
    groups = every("prod", "Network/networkSecurityGroups")
    subnets = {each["name"]: each for each in only("prod", "Network/virtualNetworks")["subnets"]}

    assert len(groups) == len(subnets) == 2
    for group in groups:
        [rule] = group["properties"]["securityRules"]
        assert rule["properties"]["access"] == "Deny"
        assert rule["properties"]["direction"] == "Outbound"
        assert rule["properties"]["destinationPortRanges"] == ["22", "3389"]
    assert all("networkSecurityGroup" in each["properties"] for each in subnets.values())
    assert subnets["apps"]["properties"]["addressPrefix"] == "10.100.0.0/23"
    assert subnets["endpoints"]["properties"]["addressPrefix"] == "10.100.2.0/27"
    assert subnets["endpoints"]["properties"]["defaultOutboundAccess"] is False


def test_the_keys_come_from_the_key_vault_by_identity_or_from_the_shell() -> None:
    [from_vault] = app("api", "prod")["configuration"]["secrets"]
    [from_shell] = app("api", "dev")["configuration"]["secrets"]

    assert from_vault["identity"].endswith("-platform")
    assert "golden-vault" in from_vault["keyVaultUrl"]
    assert "heart-scorer-api-keys" in from_vault["keyVaultUrl"]
    assert "value" not in from_vault
    assert set(from_shell) == {"name", "value"}


def logged(deployment: str) -> set[str]:
    """Every log category that a deployment collects."""
    return {
        log["category"]
        for setting in every(deployment, "Insights/diagnosticSettings")
        for log in setting["properties"]["logs"]
        if log["enabled"]
    }


def test_only_the_logs_in_use_are_collected() -> None:
    assert logged("dev") == {
        "ContainerAppConsoleLogs",
        "ContainerAppSystemLogs",
        "ContainerRegistryRepositoryEvents",
        "ContainerRegistryLoginEvents",
        "StorageWrite",
        "StorageDelete",
    }
    assert logged("prod") == logged("dev") | {"StorageRead"}  # blobAudit


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_log_alert_survives_a_table_that_does_not_exist_yet(deployment: str) -> None:
    for rule in every(deployment, "Insights/scheduledQueryRules"):
        [criterion] = rule["properties"]["criteria"]["allOf"]

        assert criterion["query"].startswith("union isfuzzy=true (datatable(")
        assert rule["properties"]["skipQueryValidation"] is True


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_without_application_insights_nothing_is_made_for_traces(deployment: str) -> None:
    environment = only(deployment, "App/managedEnvironments")

    assert every(deployment, "Insights/components") == []
    assert "openTelemetryConfiguration" not in environment
    assert "appInsightsConfiguration" not in environment


@pytest.mark.parametrize("name", APPS)
def test_the_platform_identity_pulls_the_image_and_stays_out_of_the_container(name: str) -> None:
    configuration = app(name)["configuration"]

    [kept_out] = configuration["identitySettings"]
    [registry] = configuration["registries"]
    [client] = [
        each["value"] for each in container(name)["env"] if each["name"] == "AZURE_CLIENT_ID"
    ]

    assert kept_out["lifecycle"] == "None"
    assert kept_out["identity"].endswith("-platform")
    assert registry["identity"] == kept_out["identity"]
    assert f"-{name}'" in client


# --- scaling ---------------------------------------------------------------------------------


def test_the_scale_rule_says_what_keda_understands() -> None:
    rules = app("worker")["template"]["scale"]["rules"]

    queues = [rule["custom"]["metadata"]["queueName"] for rule in rules]
    assert queues == ["patient-batches", "patient-batches-parts"]
    for rule in rules:
        metadata = rule["custom"]["metadata"]
        assert rule["custom"]["type"] == "azure-queue"
        assert rule["custom"]["identity"].endswith("-platform")
        assert set(metadata) <= KEDA_KEYS
        assert all(isinstance(value, str) for value in metadata.values())
        assert metadata["cloud"] == "Private"  # KEDA's word for: the suffix is given
        assert "primaryEndpoints.queue" in metadata["endpointSuffix"]
        assert metadata["queueLength"] == "4"
        assert metadata["queueLengthStrategy"] == "all"


def test_the_worker_scales_from_zero_in_one_revision_without_ingress() -> None:
    worker = app("worker")
    scale = worker["template"]["scale"]

    assert (scale["minReplicas"], scale["maxReplicas"]) == (0, 10)
    assert worker["configuration"]["activeRevisionsMode"] == "Single"
    assert "ingress" not in worker["configuration"]


@pytest.mark.parametrize("name", APPS)
def test_an_app_is_probed_for_life_and_readiness(name: str) -> None:
    settings = settings_class(f"{name.title()}Settings")
    port = default_of(settings, "SCORER_PORT" if name == "api" else "SCORER_HEALTH_PORT")

    probes = {probe["type"]: probe["httpGet"] for probe in container(name)["probes"]}

    assert probes == {
        "Startup": {"path": "/livez", "port": port},
        "Liveness": {"path": "/livez", "port": port},
        "Readiness": {"path": "/readyz", "port": port},
    }


@pytest.mark.parametrize("name", APPS)
def test_a_slow_start_is_given_two_minutes(name: str) -> None:
    [startup] = [probe for probe in container(name)["probes"] if probe["type"] == "Startup"]

    # Azure allows at most ten failures.
    assert startup["failureThreshold"] <= 10
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


# --- queues, containers and events -----------------------------------------------------------


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_queue_and_container_that_is_used_is_created(deployment: str) -> None:
    account = "Storage/storageAccounts"
    queues = {each["name"] for each in every(deployment, f"{account}/queueServices/queues")}
    containers = {
        each["name"].rsplit("/", 1)[-1]
        for each in every(deployment, f"{account}/blobServices/containers")
    }
    [rule] = only(deployment, f"{account}/managementPolicies")["policy"]["rules"]
    expired = {prefix.strip("/") for prefix in rule["definition"]["filters"]["prefixMatch"]}

    assert {name.rsplit("/", 1)[-1] for name in queues} == {
        "patient-batches",
        "patient-batches-poison",
        "patient-batches-parts",
    }
    assert containers == expired == CONTAINERS


def test_a_dropped_file_becomes_a_message_that_never_expires() -> None:
    subscription = only("prod", "EventGrid/systemTopics/eventSubscriptions")

    delivery = subscription["deliveryWithResourceIdentity"]
    lost = subscription["deadLetterWithResourceIdentity"]

    assert subscription["filter"] == {
        "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
        "subjectBeginsWith": "/blobServices/default/containers/incoming/",
    }
    assert delivery["identity"] == lost["identity"] == {"type": "SystemAssigned"}
    assert delivery["destination"]["properties"]["queueName"] == "patient-batches"
    assert delivery["destination"]["properties"]["queueMessageTimeToLiveInSeconds"] == -1
    assert lost["deadLetterDestination"]["properties"]["blobContainerName"] == "dead-letters"


def test_roles_come_before_what_needs_them(template: Any) -> None:
    for module in ("subscription", "api", "worker"):
        assert "access" in template["resources"][module]["dependsOn"], module


# --- the templates and the apps --------------------------------------------------------------

BOTH = {"AZURE_CLIENT_ID", "SCORER_BLOB_ENDPOINT", "SCORER_QUEUE_ENDPOINT", "SCORER_QUEUE"}


@pytest.mark.parametrize(
    ("name", "required"),
    [
        (
            "api",
            {*BOTH, "SCORER_API_KEYS"},
        ),
        (
            "worker",
            {*BOTH, "SCORER_SLOTS"},
        ),
    ],
)
def test_the_settings_of_an_app_are_settings_it_knows(name: str, required: set[str]) -> None:
    known = variables(settings_class(f"{name.title()}Settings"))

    given = {each["name"] for each in container(name)["env"]}

    assert given == required
    assert given <= set(known)
    assert {variable for variable, field in known.items() if field.is_required()} <= given


def test_what_the_template_leaves_unset_has_the_value_it_counts_on() -> None:
    worker = settings_class("WorkerSettings")
    environment = {each["name"]: each.get("value") for each in container("worker")["env"]}
    grace = app("worker")["template"]["terminationGracePeriodSeconds"]

    assert default_of(worker, "SCORER_GRACE_SECONDS") + 30 <= grace
    assert environment["SCORER_SLOTS"] == str(default_of(worker, "SCORER_SLOTS"))
    for settings in (worker, settings_class("ApiSettings")):
        assert environment["SCORER_QUEUE"] == default_of(settings, "SCORER_QUEUE")


def test_the_images_can_be_built_in_the_registry_which_has_no_buildkit() -> None:
    files = sorted(ROOT.glob("Dockerfile.*"))

    assert [path.suffix for path in files] == [".api", ".worker"]
    for path in files:
        needs_buildkit = r"^(RUN|COPY) --(mount|link|chmod|network|security)|<<"
        assert not re.search(needs_buildkit, path.read_text(), re.MULTILINE), path.name


# --- the templates and the docs --------------------------------------------------------------


def test_the_page_explains_every_parameter(template: Any) -> None:
    table = AZURE[AZURE.index("## Parameters") : AZURE.index("## Logs and alerts")]
    explained = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }

    assert explained == set(template["parameters"])


def test_every_number_asked_of_the_user_has_limits(template: Any) -> None:
    for name, parameter in template["parameters"].items():
        if parameter.get("type") == "int":
            assert {"minValue", "maxValue"} <= set(parameter), name


def test_the_commands_of_the_page_ask_for_outputs_that_exist(template: Any) -> None:
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", DEPLOY + AZURE + ACCESS, re.DOTALL))

    requested = set(re.findall(r"\$\(out (\w+)\)", shell))

    assert requested
    assert requested <= set(template["outputs"])


def test_the_commands_of_the_page_set_every_variable_that_the_parameter_files_read() -> None:
    for path in INFRA.glob("*.bicepparam"):
        for variable in re.findall(r"readEnvironmentVariable\('(\w+)'", path.read_text()):
            assert re.search(rf"\b{variable}=", DEPLOY), f"{variable} of {path.name}"


@pytest.mark.parametrize("page", ["access", "azure", "deploy", "github", "scaling"])
def test_the_commands_of_the_pages_are_shell(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()

    for commands in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        subprocess.run(["bash", "-n"], input=commands, text=True, check=True)


def test_the_page_names_every_alert() -> None:
    kinds = ("Insights/metricAlerts", "Insights/scheduledQueryRules")
    alerts = {each["name"].removeprefix("heart-") for kind in kinds for each in every("prod", kind)}
    rows = [row for row in AZURE.splitlines() if row.startswith("| ")]
    explained = {name for row in rows for name in re.findall(r"[\w-]+", row.split("|")[1])}

    assert alerts
    assert alerts <= explained


def test_azd_provisions_this_template_with_parameters_it_has(template: Any) -> None:
    azure_yaml = (ROOT / "azure.yaml").read_text()
    parameters = json.loads((INFRA / "containerapps.parameters.json").read_text())["parameters"]

    assert "module: containerapps" in azure_yaml
    assert set(parameters) <= set(template["parameters"])
    assert "apiKeys" not in parameters  # azd asks for it, and no file holds it
    assert {"registryName", "registryServer"} <= set(template["outputs"])  # what the hook reads


AZ = """#!/bin/sh
echo "az $*" >> "$CALLS"
case "$*" in *"repository show"*) exit 1;; esac
"""
AZD = """#!/bin/sh
echo "azd $*" >> "$CALLS"
"""


class Project:
    """A copy of what azd's hook reads, with `az` and `azd` that only write down their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a project"
        self.folder.mkdir()
        for name in ("api", "worker", "shared", "training", "requirements"):
            (self.folder / name).mkdir()
            (self.folder / name / "code.py").write_text("x = 1\n")
        for name in ("Dockerfile.api", "Dockerfile.worker"):
            (self.folder / name).write_text("ARG PYTHON=python:3.13-slim-trixie\n")
        for name, text in (("az", AZ), ("azd", AZD)):
            command = folder / name
            command.write_text(text)
            command.chmod(0o755)

    def git(self, *words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *identity, *words], cwd=self.folder, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("init")
        self.git("add", ".")
        self.git("commit", "-m", "first")

    def run_hook(self, **settings: str) -> tuple[str, list[str]]:
        """Return what the hook says, and the calls that it makes."""
        calls = self.folder.parent / "calls"
        calls.write_text("")
        done = subprocess.run(
            [INFRA / "build-images.sh"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
            env={
                "PATH": f"{self.folder.parent}{os.pathsep}{os.environ['PATH']}",
                "CALLS": str(calls),
                "AZURE_SUBSCRIPTION_ID": "the-subscription",
                "GIT_CEILING_DIRECTORIES": str(self.folder.parent),
                "registryName": "registry",
                "registryServer": "registry.example.org",
                **settings,
            },
        )
        return done.stdout, calls.read_text().splitlines()


def tag_of(calls: list[str]) -> str:
    """The tag that azd is told."""
    [told] = [call for call in calls if call.startswith("azd ")]
    return told.removeprefix("azd env set IMAGE_TAG ")


def test_azd_builds_a_project_without_a_commit(tmp_path: Path) -> None:
    project = Project(tmp_path)

    said, calls = project.run_hook()
    tag = tag_of(calls)
    (project.folder / "api" / "code.py").write_text("x = 2\n")
    _, again = project.run_hook()

    assert tag.startswith("files-")
    assert "no commit" in said
    assert tag_of(again) != tag


def test_azd_names_a_commit_and_says_when_it_is_not_all(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.commit()

    said, calls = project.run_hook()
    (project.folder / "api" / "code.py").write_text("x = 2\n")
    edited_said, edited = project.run_hook()

    assert re.fullmatch("[0-9a-f]{12}", tag_of(calls))
    assert f"commit {tag_of(calls)}." in said
    assert tag_of(edited).startswith(f"{tag_of(calls)}-")
    assert "uncommitted edits" in edited_said


def test_azd_builds_both_images_from_its_own_copy_of_the_base(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (project.folder / "artifact").mkdir()
    (project.folder / "artifact" / "manifest.json").write_text("{}")

    _, calls = project.run_hook(ARTIFACT="artifact")

    builds = [call for call in calls if "acr build" in call]
    assert any("acr import" in call and "docker.io/library/python:" in call for call in calls)
    assert len(builds) == 2
    for build in builds:
        assert "--build-arg PYTHON=registry.example.org/python:3.13-slim-trixie" in build
        assert "--build-arg ARTIFACT=artifact" in build
    for call in calls:
        assert call.startswith("azd ") or "--subscription the-subscription" in call


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
