"""Resources that each parameter file would deploy, read from the snapshots of the templates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

INFRA = Path(__file__).parents[1] / "infra"

Resource = dict[str, Any]
DEPLOYMENTS: dict[str, list[Resource]] = {
    path.name.removesuffix(".snapshot.json"): json.loads(path.read_text())["predictedResources"]
    for path in sorted(INFRA.glob("*.snapshot.json"))
}

# Azure's built-in roles.
ROLES = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "blob contributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "blob reader",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "queue contributor",
    "19e7f393-937e-4f77-808e-94535e297925": "queue reader",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "queue sender",
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "pull images",
    "4633458b-17de-408a-b874-0445c86b69e6": "read the secret",
}


def every(deployment: str, kind: str) -> list[Resource]:
    """All resources of a type."""
    return [
        resource for resource in DEPLOYMENTS[deployment] if resource["type"] == f"Microsoft.{kind}"
    ]


def grants(deployment: str) -> set[tuple[str, str, str]]:
    """Who is given which role on what, by the role assignments of a deployment."""
    custom = {role["name"] for role in every(deployment, "Authorization/roleDefinitions")}
    found = set()
    for assignment in every(deployment, "Authorization/roleAssignments"):
        properties = assignment["properties"]
        role = properties["roleDefinitionId"].rsplit("/", 1)[-1]
        identity = re.search(r"(?:-(api|worker|platform)|systemTopics)", properties["principalId"])
        who = (identity[1] or "topic") if identity else "operator"
        [scope] = re.findall(
            r"/(?:queues|containers|registries|secrets|storageAccounts)/([\w-]+)(?='|/providers/Microsoft.A)",
            assignment["id"].split(", guid(")[0],
        )
        if "/registries/" in assignment["id"]:
            scope = "registry"
        elif not re.search(r"/(queues|containers|secrets)/", assignment["id"]):
            scope = "account"
        found.add((who, "custom" if role in custom else ROLES[role], scope))
    return found
