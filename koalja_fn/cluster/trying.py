"""A PostgreSQL in the namespace, for trying out: one pod, no copies, no backups."""

from __future__ import annotations

import base64
from typing import Any

from koalja_fn.cluster.kinds import LABEL_MANAGER, LABEL_PART, MANAGER, Object

POSTGRES = "koalja-postgres"
IMAGE = "docker.io/library/postgres:17"
_DATA = "/var/lib/postgresql/data"
_USER = 999  # of the official image


def postgres(namespace: str, image: str, password: str, storage: str) -> list[Object]:
    """Its Secret, Service and StatefulSet; without `storage` its data go with its pod."""
    labels = {LABEL_MANAGER: MANAGER, LABEL_PART: "postgres"}

    def item(version: str, kind: str, **fields: Any) -> Object:
        metadata = {"name": POSTGRES, "namespace": namespace, "labels": labels}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}

    spec: dict[str, Any] = {
        "replicas": 1,
        "serviceName": POSTGRES,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _pod(image, storage)},
    }
    if storage:
        spec["volumeClaimTemplates"] = [
            {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
            }
        ]
    data = {"password": base64.b64encode(password.encode()).decode()}
    ports = [{"name": "postgres", "port": 5432, "targetPort": 5432, "protocol": "TCP"}]
    return [
        item("v1", "Secret", type="Opaque", data=data),
        item("v1", "Service", spec={"selector": labels, "ports": ports}),
        item("apps/v1", "StatefulSet", spec=spec),
    ]


def _pod(image: str, storage: str) -> dict[str, Any]:
    ready = ["pg_isready", "-h", "127.0.0.1", "-U", "koalja", "-d", "koalja"]  # not the server of the set-up
    container = {
        "name": "postgres",
        "image": image,
        "env": [
            {"name": "POSTGRES_USER", "value": "koalja"},
            {"name": "POSTGRES_DB", "value": "koalja"},
            {"name": "PGDATA", "value": f"{_DATA}/pgdata"},
            {
                "name": "POSTGRES_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": POSTGRES, "key": "password"}},
            },
        ],
        "ports": [{"containerPort": 5432, "name": "postgres", "protocol": "TCP"}],
        "readinessProbe": {"exec": {"command": ready}, "periodSeconds": 3},
        "volumeMounts": [
            {"name": "data", "mountPath": _DATA},
            {"name": "run", "mountPath": "/var/run/postgresql"},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    volumes: list[dict[str, Any]] = [{"name": "run", "emptyDir": {}}]
    volumes += [] if storage else [{"name": "data", "emptyDir": {}}]
    return {
        "automountServiceAccountToken": False,
        "containers": [container],
        "securityContext": {"fsGroup": _USER},
        "volumes": volumes,
    }
