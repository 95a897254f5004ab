"""The environment of programs: small, clean, and without anything that opens a door.

Nothing of the wrapper's own environment gets through but how to find programs, the language and
the time zone; credentials, proxies and tokens stay here unless the task's `env.NAME` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping

_THROUGH = ("PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME")
_PATH = "/usr/local/bin:/usr/bin:/bin"


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """What every program gets of `environ`."""
    kept = {name: environ[name] for name in _THROUGH if name in environ}
    kept |= {name: value for name, value in environ.items() if name.startswith("LC_")}
    kept.setdefault("PATH", _PATH)
    return kept
