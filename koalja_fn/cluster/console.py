"""The console of a circuit: a pod in which commands run beside the registry and the store.

So every command works on a deployed circuit as it is, with the settings and the rights that the circuit
has there; nothing of them comes to the caller's machine. The pod is made when it is needed and ends itself
when it is not used any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from koalja_fn.cluster import names
from koalja_fn.cluster.client import Cluster, Ended, Pieces, Writer
from koalja_fn.cluster.diagnosing import of_pod
from koalja_fn.cluster.kinds import CONFIG_MAP, POD, SERVICE, Object, name_of, of_circuit
from koalja_fn.cluster.rendering import console as console_pod
from koalja_fn.cluster.settings import CONFIG_MAP as SETTINGS
from koalja_fn.cluster.settings import Settings
from koalja_fn.cluster.telling import Teller
from koalja_fn.cluster.waiting import Clock, not_ready
from koalja_fn.errors import ClusterError, NotFound

_MADE_OF = "koalja.dev/made-of"
_LOOK = 0.2
_STUBBORN = 10.0
_PATIENCE = 180.0
_LAYER = "koalja_function/runtime/python"
# Runs in the pod. Standard input begins with as many bytes as the first argument says; its end means that
# whoever called is gone, and then the command is of no use any more.
_PATH = f"""
import io, os, sys, threading
sys.path.insert(0, os.path.join(os.environ.get("CNB_LAYERS_DIR", "/layers"), "{_LAYER}"))
"""
_BEGIN = f"""{_PATH}
size, given = int(sys.argv.pop(1)), b""
while len(given) < size:
    given += os.read(0, size - len(given)) or os._exit(130)
sys.stdin = io.TextIOWrapper(io.BytesIO(given), "utf-8")
def watch():
    while os.read(0, 65536):
        pass
    os._exit(130)
threading.Thread(target=watch, daemon=True).start()
"""
_COMMAND = _BEGIN + 'from koalja_fn.commands import main\nmain(prog_name="koalja-fn")\n'
_PROBE = _BEGIN + "from koalja_fn.cluster.probing import main\nsys.exit(main())\n"
_FORGET = _BEGIN + "from koalja_fn.cluster.forgetting import main\nsys.exit(main(sys.argv[1:]))\n"
_POST = _PATH + "from koalja_fn.cluster.posting import main\nsys.exit(main(int(sys.argv[1])))\n"
_RUNTIME = _BEGIN + "from koalja_runtime.starting import main\nsys.exit(main(sys.argv[1:]))\n"


@dataclass(frozen=True)
class Console:
    """A pod that is running and takes commands."""

    cluster: Cluster
    namespace: str
    pod: str

    def command(
        self,
        words: Sequence[str],
        stdin: bytes = b"",
        *,
        out: Writer | None = None,
        err: Writer | None = None,
    ) -> Ended:
        """Run `koalja-fn WORDS` there."""
        return self._call(_COMMAND, words, stdin, out, err)

    def runtime(self, words: Sequence[str], stdin: bytes = b"") -> Ended:
        """Run a command of the runtime there."""
        return self._call(_RUNTIME, words, stdin, None, None)

    def probe(self) -> Ended:
        """See what can be reached from there."""
        return self._call(_PROBE, (), b"", None, None)

    def forget(self, circuit: str) -> Ended:
        """Delete what the registry knows of a circuit."""
        return self._call(_FORGET, [circuit], b"", None, None)

    def post(self, request: bytes | Pieces) -> Ended:
        """Send a request to the circuit's entry; see `posting`."""
        return self._call(_POST, (), request, None, None)

    def _call(
        self,
        program: str,
        words: Sequence[str],
        stdin: bytes | Pieces,
        out: Writer | None,
        err: Writer | None,
    ) -> Ended:
        size = len(stdin) if isinstance(stdin, bytes) else stdin.size
        command = ["python3", "-I", "-c", program, str(size), *words]
        return self.cluster.execute(self.namespace, self.pod, command, stdin, out=out, err=err)


def open_console(
    cluster: Cluster, namespace: str, wanted: Object, teller: Teller, clock: Clock | None = None
) -> Console:
    """Use the console that runs, if it is made of the same; else make it.

    Raises:
        NotReady: Its pod does not get to run; with the cause.
    """
    clock = clock or Clock()
    name, made_of = name_of(wanted), _digest(wanted)
    live = cluster.get(POD, namespace, name)
    if live is not None and not _usable(live, made_of):
        cluster.delete(POD, namespace, name, grace=0)
        _await_gone(cluster, namespace, live, clock)
        live = None
    if live is None:
        cluster.apply(_marked(wanted, made_of))
    _await_running(cluster, namespace, name, teller, clock)
    return Console(cluster, namespace, name)


def console_of(cluster: Cluster, namespace: str, circuit: str, teller: Teller) -> Console:
    """The console of a circuit that is deployed: it has the image and the settings of the entry.

    Raises:
        NotFound: No such circuit is deployed in the namespace.
    """
    entry = cluster.get(SERVICE, namespace, names.entry(circuit))
    if entry is None:
        pod = cluster.get(POD, namespace, names.console(circuit))
        if pod is not None and _running(pod):  # left by a deletion that was interrupted
            return Console(cluster, namespace, name_of(pod))
        known = circuits(cluster, namespace)
        raise NotFound(
            f"there is no circuit {circuit} in namespace {namespace}",
            why=f"there are: {', '.join(known)}" if known else "no circuit is deployed there",
            cure="name the namespace with -n NAMESPACE, or koalja-fn deploy DIR",
        )
    image = str(entry["spec"]["template"]["spec"]["containers"][0]["image"])
    wanted = console_pod(circuit, image, settings_of(cluster, namespace), namespace=namespace)
    return open_console(cluster, namespace, wanted, teller)


def circuits(cluster: Cluster, namespace: str) -> list[str]:
    """The circuits that are deployed in a namespace, by their entries."""
    labels = {k: v for k, v in of_circuit("").items() if v} | {"koalja.dev/part": names.ENTRY}
    found = cluster.list(SERVICE, namespace, labels)
    return sorted(str(one["metadata"]["labels"]["koalja.dev/circuit"]) for one in found)


def the_circuit(cluster: Cluster, namespace: str, name: str) -> str:
    """The circuit of that name, or without one the only one that is there.

    Raises:
        NotFound: There is no such one, none, or several.
    """
    known = circuits(cluster, namespace)
    if name in known or (not name and len(known) == 1):
        return name or known[0]
    what = f"there is no circuit {name!r}" if name else "no circuit" if not known else "which circuit?"
    raise NotFound(
        f"{what} in namespace {namespace}",
        why=f"there are: {', '.join(known)}" if known else "no circuit is deployed there",
        cure="name the namespace with -n NAMESPACE",
    )


def meant(cluster: Cluster, namespace: str, word: str) -> tuple[str, str]:
    """The circuit that a word names; and the word itself where it means something else.

    That can be known where only one circuit is there.
    """
    known = circuits(cluster, namespace)
    if word and word not in known and len(known) == 1:
        return known[0], word
    return (word, "") if word else (the_circuit(cluster, namespace, ""), "")


def settings_of(cluster: Cluster, namespace: str) -> Settings:
    """The settings of a namespace.

    Raises:
        NotFound: It has none.
        UsageError: They can't be used.
    """
    found = cluster.get(CONFIG_MAP, namespace, SETTINGS)
    if found is None:
        raise NotFound(
            f"namespace {namespace} has no settings",
            why=f"there is no ConfigMap {SETTINGS}",
            cure=f"koalja-fn install -n {namespace} --store s3://BUCKET --images REGISTRY/PREFIX",
        )
    return Settings.of({str(k): str(v) for k, v in (found.get("data") or {}).items()})


def _running(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get(
        "deletionTimestamp"
    )


def _usable(live: Object, made_of: str) -> bool:
    notes = live["metadata"].get("annotations") or {}
    phase = (live.get("status") or {}).get("phase")
    gone = live["metadata"].get("deletionTimestamp") or phase in ("Succeeded", "Failed")
    return not gone and notes.get(_MADE_OF) == made_of


def _digest(wanted: Object) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]


def _marked(wanted: Object, made_of: str) -> Object:
    metadata = wanted["metadata"]
    notes = {**(metadata.get("annotations") or {}), _MADE_OF: made_of}
    return {**wanted, "metadata": {**metadata, "annotations": notes}}


def _await_gone(cluster: Cluster, namespace: str, live: Object, clock: Clock) -> None:
    until = clock.now() + _PATIENCE
    while (found := cluster.get(POD, namespace, name_of(live))) is not None:
        if found["metadata"].get("uid") != live["metadata"].get("uid"):
            return
        if clock.now() >= until:
            raise ClusterError(f"pod {name_of(live)} does not go away", cure="kubectl delete pod --force")
        clock.sleep(_LOOK)


def _await_running(cluster: Cluster, namespace: str, name: str, teller: Teller, clock: Clock) -> None:
    began, bad = clock.now(), None
    title = f"Pod {name}"
    try:
        while True:
            pod = cluster.get(POD, namespace, name)
            if pod is not None and _running(pod):
                return
            now = clock.now()
            cause = of_pod(cluster, pod) if pod is not None and now - began > 2 else None
            bad = (bad if bad is not None else now) if cause and cause.final else None
            hopeless = bad is not None and now - bad >= _STUBBORN
            if pod is not None and (hopeless or now - began >= _PATIENCE):
                raise not_ready(pod, pod, cause)
            teller.state(title, cause.what if cause else "starts")
            clock.sleep(_LOOK)
    finally:
        teller.state(title, "")
