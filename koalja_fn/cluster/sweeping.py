"""The sweep: something looks now and then for what nobody rang for.

By KEDA a pod starts only when the registry says that there is something to find. A PingSource wakes the entry
at each tick, whether there is something or not: every minute where it is the only way, every ten minutes as a
net below KEDA's. Tasks with `every` are found by the same sweep, since their next instant is in the registry.
"""

from __future__ import annotations

from koalja_fn.cluster import jobs as scaled_jobs
from koalja_fn.cluster import names, pods, questions
from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.place import Deployed, entry_reference

_POLL = 30
_DEADLINE = 600
_EACH_MINUTE, _EACH_TEN_MINUTES = "* * * * *", "*/10 * * * *"


def jobs(place: Deployed) -> list[Object]:
    """The sweep as a job that KEDA starts when there is something to find."""
    swept = [*place.rung, *place.jobs]
    if not place.settings.has_keda or not swept:
        return []
    return [
        scaled_jobs.scaled(
            place,
            names.sweep(place.circuit.name),
            names.SWEEP,
            "",
            pods.container(place, names.ENTRY, names.SWEEP),
            scaled_jobs.by_query(place, questions.left_alone(place.circuit, swept)),
            poll=_POLL,
            most=1,
            deadline=_DEADLINE,
        )
    ]


def pings(place: Deployed) -> list[Object]:
    """The sweep as a request that the entry gets by the clock."""
    if not place.settings.pings:
        return []
    return [
        {
            "apiVersion": "sources.knative.dev/v1",
            "kind": "PingSource",
            "metadata": place.metadata(names.sweep(place.circuit.name), names.SWEEP),
            "spec": {
                "schedule": _EACH_TEN_MINUTES if place.settings.has_keda else _EACH_MINUTE,
                "sink": {"ref": entry_reference(place), "uri": "/sweep"},
            },
        }
    ]
