"""Making a namespace ready for circuits: its settings, its secrets, the account of the runtimes.

What is not given stays as it was, so `install` may be called again with what has changed.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.conditions import condition
from koalja_fn.cluster.diagnosing import of_pod
from koalja_fn.cluster.kinds import (
    CONFIG_MAP,
    LABEL_MANAGER,
    LABEL_PART,
    MANAGER,
    NAMESPACE,
    POD,
    SECRET,
    STATEFUL_SET,
    Object,
    kind_of,
    name_of,
    title,
)
from koalja_fn.cluster.planning import SETTINGS as PART
from koalja_fn.cluster.planning import Change, Plan, Step, step_of
from koalja_fn.cluster.settings import (
    CONFIG_MAP as SETTINGS,
)
from koalja_fn.cluster.settings import KEYS as AWS_KEYS
from koalja_fn.cluster.settings import (
    REGISTRY_KEY,
    REGISTRY_SECRET,
    ROLE,
    SERVICE_ACCOUNT,
    STORE_SECRET,
    Settings,
)
from koalja_fn.cluster.telling import Teller
from koalja_fn.cluster.trying import POSTGRES, postgres
from koalja_fn.cluster.waiting import Clock, not_ready
from koalja_fn.errors import UsageError

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ROLE = "eks.amazonaws.com/role-arn"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a namespace; empty means as it is.

    `settings` are names of `Settings` with hyphens. `registry` is a database's address with its password,
    `keys` AWS's for the store, `role` an IAM role for the runtimes instead of keys. `postgres` is the image
    of a database for trying out, with `storage` as its disk's size, empty for none that outlives the pod.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    registry: str = field(default="", repr=False)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    role: str = ""
    postgres: str = ""
    storage: str = ""


def keys_of_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """AWS's keys as the caller's environment has them.

    Raises:
        UsageError: It has none.
    """
    found = {name: environ[name] for name in KEYS if environ.get(name)}
    if not set(KEYS[:2]) <= set(found):
        raise UsageError(
            f"{KEYS[0]} and {KEYS[1]} are not set",
            cure="export them, or give the runtimes a role: --role-arn ARN",
        )
    return found


def check_registry(address: str, *, argument: bool) -> str:
    """See that a registry's address can be one.

    Raises:
        UsageError: It is no PostgreSQL address, or has a password and stands on the command line.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname:
        raise UsageError(
            "that is no address of a PostgreSQL database",
            cure="postgresql://USER:PASSWORD@HOST:5432/DATABASE",
        )
    if argument and parts.password:
        raise UsageError(
            "a password on the command line can be seen by others",
            cure="put the address into KOALJA_REGISTRY, or into a file: --registry-file FILE",
        )
    return address


def wanted(cluster: Cluster, namespace: str, wish: Wish) -> list[Object]:
    """All objects of an installed namespace, in apply order.

    Raises:
        UsageError: A setting is not what it should be, or something is missing without which nothing runs.
    """
    before = cluster.get(CONFIG_MAP, namespace, SETTINGS)
    kept = {str(k): str(v) for k, v in ((before or {}).get("data") or {}).items()}
    identity = {"aws-identity": ROLE} if wish.role else {"aws-identity": AWS_KEYS} if wish.keys else {}
    settings = Settings.of({**kept, **identity, **wish.settings})
    dsn = wish.registry
    objects: list[Object] = [_namespace(namespace), _account(namespace, settings, wish.role)]
    if wish.postgres:
        password = _password(cluster, namespace)
        dsn = f"postgresql://koalja:{quote(password, safe='')}@{POSTGRES}.{namespace}.svc:5432/koalja"
        objects += postgres(namespace, wish.postgres, password, wish.storage)
    objects.append(_item("v1", "ConfigMap", SETTINGS, namespace, data=settings.data()))
    if dsn:
        objects.append(_secret(REGISTRY_SECRET, namespace, {REGISTRY_KEY: dsn}))
    elif cluster.get(SECRET, namespace, REGISTRY_SECRET) is None:
        raise UsageError(
            f"namespace {namespace} has no registry yet",
            cure="KOALJA_REGISTRY=postgresql://… koalja-fn install, or --with-postgres for trying out",
        )
    if wish.keys:
        objects.append(_secret(STORE_SECRET, namespace, wish.keys))
    if not settings.store:
        raise UsageError(f"namespace {namespace} has no store yet", cure="--store s3://BUCKET/PREFIX")
    return objects


def install(cluster: Cluster, namespace: str, objects: Sequence[Object], teller: Teller) -> Plan:
    """Apply what differs."""
    done: list[Step] = []
    for item in objects:  # the namespace first: without it nothing else can even be compared
        if kind_of(item) == NAMESPACE and cluster.get(NAMESPACE, "", namespace) is not None:
            continue  # it may be somebody else's, and is as good
        step = step_of(cluster, item)
        done.append(step)
        if step.change is not Change.SAME:
            cluster.apply(item)
            teller.say(f"{title(item)} {'made' if step.change is Change.CREATE else 'changed'}")
    return Plan(tuple(done))


def await_postgres(
    cluster: Cluster, namespace: str, timeout: float, teller: Teller, clock: Clock | None = None
) -> None:
    """Wait until the database for trying out takes connections.

    Raises:
        NotReady: It does not; with the cause.
    """
    clock = clock or Clock()
    until, title_ = clock.now() + timeout, f"Pod {POSTGRES}-0"
    try:
        while True:
            pod = cluster.get(POD, namespace, f"{POSTGRES}-0")
            if pod is not None and condition(pod, "Ready").status == "True":
                return
            cause = of_pod(cluster, pod) if pod is not None else None
            if clock.now() >= until or (cause and cause.final and clock.now() >= until - timeout + 30):
                there = (
                    pod or cluster.get(STATEFUL_SET, namespace, POSTGRES) or {"metadata": {"name": POSTGRES}}
                )
                raise not_ready(there, pod, cause)
            teller.state(title_, cause.what if cause else "starts")
            clock.sleep(1.0)
    finally:
        teller.state(title_, "")


def _item(version: str, kind: str, name: str, namespace: str, **fields: object) -> Object:
    labels = {LABEL_MANAGER: MANAGER, LABEL_PART: PART}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        **fields,
    }


def _namespace(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL_MANAGER: MANAGER}},
    }


def _account(namespace: str, settings: Settings, role: str) -> Object:
    """The runtimes' account: no rights on the cluster, no token in its pods."""
    account = _item("v1", "ServiceAccount", SERVICE_ACCOUNT, namespace, automountServiceAccountToken=False)
    if role:
        account["metadata"]["annotations"] = {_ROLE: role}
    if settings.pull_secret:
        account["imagePullSecrets"] = [{"name": settings.pull_secret}]
    return account


def _secret(name: str, namespace: str, values: Mapping[str, str]) -> Object:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in values.items()}
    return _item("v1", "Secret", name, namespace, type="Opaque", data=data)


def _password(cluster: Cluster, namespace: str) -> str:
    """The password of the database for trying out: drawn once, then the one that it has."""
    found = cluster.get(SECRET, namespace, POSTGRES)
    text = ((found or {}).get("data") or {}).get("password")
    return base64.b64decode(text).decode() if text else secrets.token_urlsafe(18)


def described(objects: Sequence[Object]) -> list[str]:
    """What would be applied, a line each; no secret is in it."""
    return [f"{kind_of(item)} {name_of(item)}" for item in objects]
