"""Look-ups on the side: a recording proxy between a program and the services that its wiring names.

Knows nothing of registries, claims or processes: it is told where a service is now (`Switch`) or where an
outside one always is (`outside`), and tells what was asked and answered (`Lookup`).
"""

from koalja_fn.lookups.proxy import Asking, Limits, Proxy
from koalja_fn.lookups.recorded import Record, records
from koalja_fn.lookups.switching import Relayed, Switch, Target, Unavailable, Upstream, outside

__all__ = [
    "Asking",
    "Limits",
    "Proxy",
    "Record",
    "Relayed",
    "Switch",
    "Target",
    "Unavailable",
    "Upstream",
    "outside",
    "records",
]
