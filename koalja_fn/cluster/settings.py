"""The settings of a namespace, as the ConfigMap `koalja-settings` holds them, read once at the edge."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from koalja_fn.errors import UsageError

CONFIG_MAP = "koalja-settings"
REGISTRY_SECRET, REGISTRY_KEY = "koalja-registry", "dsn"
STORE_SECRET = "koalja-store"  # noqa: S105  a name
SERVICE_ACCOUNT = "koalja"
MULTI_TENANT = "MTChannelBasedBroker"
IN_MEMORY = "InMemoryChannel"
PING, KEDA = "ping", "keda"
KEYS, ROLE = "keys", "role"

_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def _quantity(text: str) -> str:
    if text and not _QUANTITY.fullmatch(text):
        raise ValueError("write an amount such as 100m, 0.5, 256Mi or 10Gi")
    return text


def _store(text: str) -> str:
    if text and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s]*)?", text):
        raise ValueError("write s3://BUCKET/PREFIX")
    return text


def _broker_class(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", text):
        raise ValueError("write MTChannelBasedBroker, Kafka, KafkaNamespaced or RabbitMQBroker")
    return text


def _ways(text: str) -> str:
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found or any(word not in (PING, KEDA) for word in found):
        raise ValueError("write ping, keda or ping,keda")
    return ",".join(word for word in (PING, KEDA) if word in found)


def reach(text: str) -> tuple[tuple[str, int | None], ...]:
    """Address ranges such as `10.0.3.0/24:5432` or `10.0.4.7`, with commas between: (CIDR, port or None).

    Raises:
        ValueError: A word is none.
    """
    return tuple(_range(word) for word in text.replace(",", " ").split())


def _range(word: str) -> tuple[str, int | None]:
    block, colon, port = word.rpartition(":")
    for address, number in ((word, None), (block, port if colon else None)):
        try:
            network = str(ipaddress.ip_network(address))
        except ValueError:
            continue
        if number is None:
            return network, None
        if number.isdecimal() and 1 <= int(number) <= 65_535:
            return network, int(number)
    raise ValueError(f"{word!r} is no address range with a port, such as 10.0.3.0/24:5432")


def _reachable(text: str) -> str:
    reach(text)
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]


class Settings(BaseModel):
    """How circuits are rendered in a namespace. All values are text in the ConfigMap; empty means absent.

    `store` and `images` are where payloads and images go; `endpoint` is an S3 server other than AWS's own,
    `queue_endpoint` one of SQS. `aws_identity` is by what KEDA looks at queues: the runtimes' keys, or role.
    `broker_class`, `broker_config` (NAMESPACE/NAME, where the cluster has no default for the class) and
    `channel` (the multi-tenant Broker's) say what carries doorbells, `sweep` who finds those that were lost.
    `places` is how many programs one pod runs at once at most, `entries` how many pods take data in.
    `user` is whom programs run as, empty where the cluster chooses (OpenShift). `egress` are the only
    address ranges beside the cluster's own services that runtimes may reach, empty for all.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        validate_by_alias=True,
    )

    store: Annotated[str, AfterValidator(_store)] = ""
    images: str = ""
    endpoint: str = Field("", pattern=r"^$|^https?://[^\s/]+/?$")
    queue_endpoint: str = Field("", pattern=r"^$|^https?://[^\s/]+/?$")
    aws_identity: str = Field(KEYS, pattern=f"^({KEYS}|{ROLE})$")
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]+$")
    broker_class: Annotated[str, AfterValidator(_broker_class)] = MULTI_TENANT
    broker_config: str = Field("", pattern=r"^$|^[a-z0-9-]+/[a-z0-9.-]+$")
    channel: str = Field(IN_MEMORY, pattern=r"^[A-Za-z]+$")
    sweep: Annotated[str, AfterValidator(_ways)] = f"{PING},{KEDA}"
    places: int = Field(4, ge=1, le=100)
    entries: int = Field(5, ge=1, le=1000)
    cpu: Quantity = "100m"
    memory: Quantity = "128Mi"
    cpu_limit: Quantity = ""
    memory_limit: Quantity = ""
    scratch: Quantity = "10Gi"
    user: str = Field("1000", pattern=r"^$|^[1-9][0-9]{0,9}$")
    pull_secret: str = Field("", pattern=r"^$|^[a-z0-9][a-z0-9.-]{0,252}$")
    egress: Annotated[str, AfterValidator(_reachable)] = ""

    @classmethod
    def of(cls, data: Mapping[str, str]) -> Settings:
        """Read a ConfigMap's data.

        Raises:
            UsageError: A setting is not known, or is not what it should be; all of them are named.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            found = [
                f"{'.'.join(map(str, one['loc'])) or 'settings'}: {_said(one['type'], one['msg'])}"
                for one in error.errors()
            ]
            raise UsageError(
                f"the settings in ConfigMap {CONFIG_MAP} can't be used",
                why="; ".join(found),
                cure=f"kubectl edit configmap {CONFIG_MAP}, or koalja-fn install again",
            ) from error

    def data(self) -> dict[str, str]:
        """What the ConfigMap holds."""
        return {name: str(value) for name, value in self.model_dump(by_alias=True).items()}

    @property
    def pings(self) -> bool:
        """Whether a PingSource sweeps."""
        return PING in self.sweep.split(",")

    @property
    def has_keda(self) -> bool:
        """Whether a ScaledJob sweeps."""
        return KEDA in self.sweep.split(",")

    @property
    def in_memory(self) -> bool:
        """Whether the Broker is the one whose channel has to be made asynchronous."""
        return self.broker_class == MULTI_TENANT and self.channel == IN_MEMORY


def _said(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting"
    return message.removeprefix("Value error, ")
