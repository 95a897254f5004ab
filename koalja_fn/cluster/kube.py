"""The real cluster: the official `kubernetes` library behind our protocol.

Of the library only what it does best is used: reading kubeconfigs with all their ways to log in, TLS, and
the channels of `exec`. Objects stay plain data, so one way serves all kinds. Takes 0.6 s to import, hence
late.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from koalja_fn.cluster.client import Cluster, Ended, Pieces, Writer
from koalja_fn.cluster.kinds import MANAGER, POD, Kind, Object, kind_of, name_of, title
from koalja_fn.errors import ClusterError, Forbidden, Rejected, Unanswered, UsageError

_TRIES = 6
_PAUSE = 0.25
_LONGEST = 4.0
_CONNECT, _READ = 10.0, 60.0
_APPLY = "application/apply-patch+yaml"
_MERELY_BUSY = frozenset({429, 502, 503, 504})
_STDIN, _STDOUT, _STDERR, _ERROR = 0, 1, 2, 3
_CHUNK = 1 << 16
_INSIDE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(context: str | None = None, *, pause: Callable[[float], None] = time.sleep) -> Cluster:
    """The cluster of the caller's kubeconfig (KUBECONFIG, ~/.kube/config), or the one that this pod is in.

    Raises:
        UsageError: The library is not installed, or there is no kubeconfig or no such context in it.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise UsageError(
            "the library `kubernetes` is not installed",
            why=str(error),
            cure="pip install 'koalja-fn[cluster]'",
        ) from error
    settings = client.Configuration()
    settings.retries = False  # tries are ours: only we know what may be repeated
    file = os.environ.get("KUBECONFIG") or "~/.kube/config"  # the library looks once, when it is imported
    if context is None and _INSIDE.is_file() and not _kubeconfig():
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        return Kube(settings, _INSIDE.read_text().strip(), pause)
    try:
        config.load_kube_config(file, context, settings, persist_config=False)  # type: ignore[no-untyped-call]
        contexts, active = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    except Exception as error:  # the library raises whatever its parts raise
        raise UsageError(
            "no cluster is chosen",
            why=(str(error).strip().splitlines() or [type(error).__name__])[0],
            cure="set KUBECONFIG, or choose a context: kubectl config use-context NAME",
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), active)
    return Kube(settings, str(chosen.get("context", {}).get("namespace") or "default"), pause)


def _kubeconfig() -> bool:
    return bool(os.environ.get("KUBECONFIG")) or Path("~/.kube/config").expanduser().is_file()


class Kube:
    """A cluster behind the library's configuration; may be used by several threads at once."""

    def __init__(self, settings: Any, namespace: str, pause: Callable[[float], None] = time.sleep) -> None:
        from kubernetes import client

        self.namespace = namespace
        self._settings = settings
        self._api = client.ApiClient(settings)
        self._pause = pause
        self._executing = Lock()

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply: our fields become as given, fields that we no longer name go, others stay."""
        namespace = str(item["metadata"].get("namespace", ""))
        query = [("fieldManager", MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        query += [("dryRun", "All")] if dry_run else []
        path = kind_of(item).path(namespace, name_of(item))
        return self._json("PATCH", path, query, item, what=title(item))

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object, or None."""
        return self._found("GET", kind.path(namespace, name), what=f"{kind} {name}")

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """All with these labels; a kind that the cluster does not know has no objects."""
        query = [("labelSelector", ",".join(f"{k}={v}" for k, v in labels.items()))] if labels else []
        found = self._found("GET", kind.path(namespace), query, what=f"{kind.plural} of {namespace}")
        whole = {"apiVersion": kind.version, "kind": kind.name}
        return [{**whole, **item} for item in (found or {}).get("items") or []]

    def serves(self, kind: Kind, namespace: str) -> bool:
        """Whether a list of them can be had."""
        return self._found("GET", kind.path(namespace), [("limit", "1")], what=kind.plural) is not None

    def delete(self, kind: Kind, namespace: str, name: str, *, grace: int | None = None) -> bool:
        """Delete with all that depends on it, which goes first."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        if kind == POD or grace is not None:
            body["propagationPolicy"] = "Background"
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        return self._found("DELETE", kind.path(namespace, name), body=body, what=f"{kind} {name}") is not None

    def execute(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        stdin: bytes | Pieces = b"",
        *,
        out: Writer | None = None,
        err: Writer | None = None,
    ) -> Ended:
        """Run a command over one web socket, whose channels are its streams; stdin ends with the socket."""
        from websocket import WebSocketException

        kept: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: []}
        into = {_STDOUT: out or kept[_STDOUT].append, _STDERR: err or kept[_STDERR].append}
        stream = self._opened(namespace, pod, command)
        try:
            for part in (stdin,) if isinstance(stdin, bytes) else stdin.parts:
                for start in range(0, len(part), _CHUNK):
                    stream.write_channel(_STDIN, part[start : start + _CHUNK])
                    _drain(stream, into, 0)
            while stream.is_open():
                _drain(stream, into, 1)
            _drain(stream, into, 0)
            status = _status(stream.read_channel(_ERROR))
        except (OSError, ValueError, WebSocketException) as error:
            raise Unanswered(f"the connection to pod {pod} broke", why=str(error)) from error
        finally:
            stream.close()
        return Ended(status, b"".join(kept[_STDOUT]), b"".join(kept[_STDERR]))

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        """The lines of a container, as they come."""
        query = [("container", container)] if container else []
        query += [("follow", "true")] if follow else []
        query += [("previous", "true")] if previous else []
        query += [("tailLines", str(tail))] if tail is not None else []
        path = POD.path(namespace, pod) + "/log"
        answer = self._ask("GET", path, query, None, (_CONNECT, None if follow else _READ))
        if answer.status != 200:
            raise _refusal(answer.status, answer.read() or b"", f"the log of pod {pod}")
        yield from _lines(answer.response)

    def _found(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Object | None = None,
        *,
        what: str,
    ) -> Object | None:
        try:
            return self._json(method, path, query, body, what=what)
        except Rejected as error:
            if error.status == 404:
                return None
            raise

    def _json(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Object | None = None,
        *,
        what: str,
    ) -> Object:
        """Ask, again and again while the server is merely busy or away.

        All that is asked here may be repeated: apply and delete lead to the same end.
        """
        delay = _PAUSE
        for left in range(_TRIES - 1, -1, -1):
            try:
                answer = self._ask(method, path, query, body, (_CONNECT, _READ))
                status, text = answer.status, answer.read() or b""
            except Unanswered:
                if not left:
                    raise
            else:
                if status < 300:
                    found: Object = json.loads(text)
                    return found
                if not left or not _again(status, text):
                    raise _refusal(status, text, what)
            self._pause(delay)
            delay = min(2 * delay, _LONGEST)
        raise AssertionError("the last try has ended")

    def _ask(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: Object | None, timeout: Any
    ) -> Any:
        import urllib3.exceptions
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _APPLY if method == "PATCH" else "application/json"
        request = self._api.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            return self._api.call_api(*request, _request_timeout=timeout)
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            why = getattr(error, "reason", None) or error
            raise Unanswered(
                f"the cluster at {self._settings.host} does not answer",
                why=str(why),
                cure="see whether `kubectl version` gets an answer",
            ) from error

    def _opened(self, namespace: str, pod: str, command: Sequence[str]) -> Any:
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream import stream

        api = client.CoreV1Api(client.ApiClient(self._settings))  # stream() patches the client it is given
        try:
            return stream(
                api.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                command=list(command),
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        except ApiException as error:
            raise _exec_refused(pod, str(error.reason or error)) from error


def _drain(stream: Any, into: Mapping[int, Writer], seconds: float) -> None:
    stream.update(timeout=seconds)
    for channel, write in into.items():
        data = stream.read_channel(channel) if stream.peek_channel(channel) else b""
        if data:
            write(data)


def _status(text: bytes) -> int:
    """The exit status, from what stands on the error channel at the end."""
    told = json.loads(text or b"{}")
    if told.get("status") == "Success":
        return 0
    for cause in (told.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ValueError(told.get("message") or "the command's end was not told")


def _exec_refused(pod: str, why: str) -> ClusterError:
    if "403" in why or "orbidden" in why:
        return Forbidden(
            f"no command may be run in pod {pod}", why=why, cure="ask for the right to create pods/exec"
        )
    return Unanswered(f"no command can be run in pod {pod}", why=why)


def _lines(response: Any) -> Iterator[str]:
    rest = b""
    import urllib3.exceptions

    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):  # the pod has gone, or the server
        for data in response.stream(decode_content=False):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def _again(status: int, text: bytes) -> bool:
    """Whether the same may go well a moment later."""
    if status in _MERELY_BUSY:
        return True
    if status == 409:  # a controller has written at the same moment; what others own is taken by force anyway
        return b"object has been modified" in text or b'"AlreadyExists"' in text or b"try again" in text
    return status == 500 and b"typed patch object" not in text and b"denied the request" not in text


def _refusal(status: int, text: bytes, what: str) -> ClusterError:
    try:
        told = json.loads(text)
        why = str(told.get("message") or told.get("reason") or "")
    except (ValueError, AttributeError):
        why = text[:500].decode("utf-8", "replace").strip()
    if status == 401:
        return Forbidden(
            f"{what}: the cluster does not know us", why=why, cure="log in again, as for kubectl"
        )
    if status == 403 and "exceeded quota" not in why and "being terminated" not in why:
        return Forbidden(f"{what}: not allowed", why=why, cure="ask for that right in this namespace")
    cure = _cure(status, why)
    return Rejected(f"{what} is refused ({status})", why=why, cure=cure, status=status)


def _cure(status: int, why: str) -> str:
    """What to try, where the API's words tell it."""
    if "exceeded quota" in why:
        return "ask for a larger quota, or lower `scale` and the resources"
    if "being terminated" in why:
        return "the namespace is being deleted: wait until it is gone, then try again"
    if "failed calling webhook" in why:
        return "a webhook is down: koalja-fn doctor --cluster tells which"
    if "namespaces" in why and "not found" in why:
        return "koalja-fn install -n NAMESPACE makes it"
    if status == 404 and "could not find the requested resource" in why:
        return "the cluster lacks a part: koalja-fn doctor --cluster tells which"
    if "immutable" in why or "may not be changed" in why:
        return "that can't be changed in place: koalja-fn delete --keep-data, then deploy again"
    return ""
