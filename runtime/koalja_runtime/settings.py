"""What the container's environment says, read once. Imports nothing: it is read before the first answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ROLES = ("task", "service", "entry", "job", "queue", "sweep", "console")
# More requests than places are let in, so that rings that find no place are answered at once.
BESIDES = 12
# So many seconds before the grace is over programs are ended, and their snapshots given back.
LAST = 15.0
# A request is answered so many seconds before it would be cut off.
_MARGIN = 20.0


class Settings(NamedTuple):
    """How a runtime works. Times are in seconds.

    Without `registry` and `store` it works alone: `role` is empty then, and its state is below `state`.
    `services` are NAME=ADDRESS of the services that the task asks, with spaces between.
    `request` is the longest that a request may stay open, `grace` the longest from SIGTERM to the end,
    `places` how many programs may run here at once, `lease` how long a claim holds without a heartbeat.
    """

    role: str = ""
    circuit: str = ""
    task: str = ""
    wire: str = ""
    registry: str = ""
    store: str = ""
    broker: str = ""
    services: str = ""
    state: str = "/tmp/koalja"  # noqa: S108  a container's own
    scratch: str = "/scratch"
    places: int = 1
    request: float = 600.0
    grace: float = 600.0
    lease: float = 30.0
    idle: float = 900.0
    host: str = "0.0.0.0"  # noqa: S104  a container has its own network
    port: int = 8080

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment.

        Raises:
            ValueError: A setting is missing or is not what it should be.
        """
        together = bool(environ.get("KOALJA_REGISTRY"))
        role = environ.get("KOALJA_ROLE", "task") if together else ""
        if together:
            _check(environ, role)
        return cls(
            role=role,
            circuit=environ.get("KOALJA_CIRCUIT", ""),
            task=environ.get("KOALJA_TASK", ""),
            wire=environ.get("KOALJA_WIRE", ""),
            registry=environ.get("KOALJA_REGISTRY", ""),
            store=environ.get("KOALJA_STORE", ""),
            broker=environ.get("KOALJA_BROKER", ""),
            services=environ.get("KOALJA_SERVICES", ""),
            state=environ.get("KOALJA_STATE", "/tmp/koalja"),  # noqa: S108
            scratch=environ.get("KOALJA_SCRATCH", "/scratch"),
            places=round(_number(environ, "KOALJA_PLACES", 1, 1, 1000)),
            request=_number(environ, "KOALJA_REQUEST_SECONDS", 600, 1, 86_400),
            grace=_number(environ, "KOALJA_GRACE_SECONDS", 600 if together else 30, 1, 86_400),
            lease=_number(environ, "KOALJA_LEASE_SECONDS", 30, 1, 3600),
            idle=_number(environ, "KOALJA_IDLE_SECONDS", 900, 1, 86_400),
            host=environ.get("KOALJA_HOST", "0.0.0.0"),  # noqa: S104
            port=round(_number(environ, "PORT", 8080, 0, 65_535)),
        )

    @property
    def working(self) -> float:
        """How long a request works before it is answered."""
        return self.request - min(_MARGIN, self.request / 10)


def _check(environ: Mapping[str, str], role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"KOALJA_ROLE is {role!r}; it is one of {', '.join(ROLES)}")
    needed = ["KOALJA_STORE", "KOALJA_CIRCUIT"] if role != "console" else []
    if role in ("task", "service", "job"):
        needed.append("KOALJA_TASK")
    if role == "queue":
        needed.append("KOALJA_WIRE")
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be set where KOALJA_REGISTRY is, for the role {role}")


def _number(environ: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = environ.get(name, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise ValueError(f"{name} is {text!r}; it is a number from {least:g} to {most:g}")
    return number
