"""A Kubernetes API in small, over real HTTP: server-side apply, generations, dry runs, deletion, faults.

And the controllers of Knative and KEDA as far as applying needs them: things get Ready a while after they
were applied, a Broker has an address, a Trigger a subscriber in its Broker's channel; and when two
Triggers go at nearly the same time, a subscriber stays behind, as it really does.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cluster.applying.merging import Conflict, Object, applied

KINDS = {
    ("v1", "namespaces"): "Namespace",
    ("v1", "serviceaccounts"): "ServiceAccount",
    ("v1", "configmaps"): "ConfigMap",
    ("v1", "secrets"): "Secret",
    ("v1", "pods"): "Pod",
    ("v1", "events"): "Event",
    ("v1", "services"): "Service",
    ("apps/v1", "deployments"): "Deployment",
    ("apps/v1", "statefulsets"): "StatefulSet",
    ("batch/v1", "jobs"): "Job",
    ("networking.k8s.io/v1", "networkpolicies"): "NetworkPolicy",
    ("apiextensions.k8s.io/v1", "customresourcedefinitions"): "CustomResourceDefinition",
    ("serving.knative.dev/v1", "services"): "Service",
    ("serving.knative.dev/v1", "configurations"): "Configuration",
    ("serving.knative.dev/v1", "revisions"): "Revision",
    ("serving.knative.dev/v1", "routes"): "Route",
    ("eventing.knative.dev/v1", "brokers"): "Broker",
    ("eventing.knative.dev/v1", "triggers"): "Trigger",
    ("messaging.knative.dev/v1", "inmemorychannels"): "InMemoryChannel",
    ("messaging.knative.dev/v1", "subscriptions"): "Subscription",
    ("sources.knative.dev/v1", "pingsources"): "PingSource",
    ("keda.sh/v1alpha1", "scaledjobs"): "ScaledJob",
    ("keda.sh/v1alpha1", "triggerauthentications"): "TriggerAuthentication",
}
READY = {"Service", "Broker", "Trigger", "InMemoryChannel", "ScaledJob", "PingSource"}
Key = tuple[str, str, str, str]  # version, plural, namespace, name


@dataclass
class Api:
    """The server's state, and what tests set and read. Times are in seconds."""

    delay: float = 0.0
    lag: float = 0.15
    faults: list[Callable[[str, str], int | None]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    stuck: dict[tuple[str, str], Object] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    objects: dict[Key, Object] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    written: list[tuple[str, str, str]] = field(default_factory=list)
    made: dict[Key, float] = field(default_factory=dict)
    deleted: list[tuple[float, str]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)
    version: int = 0
    url: str = ""
    on_write: Callable[[str, str, str], None] | None = None

    def names(self, kind: str) -> list[str]:
        """Names of the objects of a kind, in the order of their making."""
        with self.lock:
            self.settle()
            return [key[3] for key, item in self.objects.items() if item["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """An object as it is."""
        with self.lock:
            self.settle()
            return next(o for k, o in self.objects.items() if o["kind"] == kind and k[3] == name)

    def state(self) -> dict[str, Any]:
        """All objects without what differs between two runs."""
        with self.lock:
            self.settle()
            return {
                f"{item['kind']}/{key[3]}": {k: v for k, v in item.items() if k in ("spec", "data")}
                | {"labels": item["metadata"].get("labels")}
                for key, item in sorted(self.objects.items())
                if item["kind"] not in ("Subscription", "InMemoryChannel", "Pod")
            }

    def add(self, item: Object) -> Object:
        """Put an object there, as if somebody else had."""
        version = item["apiVersion"]
        plural = next(p for (v, p), kind in KINDS.items() if v == version and kind == item["kind"])
        namespace = item["metadata"].get("namespace", "")
        key = (version, plural, namespace, item["metadata"]["name"])
        with self.lock:
            self._stamp(item, key)
            self.objects[key] = item
        return item

    def apply(self, key: Key, body: Object, query: dict[str, list[str]]) -> tuple[int, Object]:
        """PATCH with apply: the status and the answer."""
        if key[2] and ("v1", "namespaces", "", key[2]) not in self.objects:
            return 404, _status(404, f'namespaces "{key[2]}" not found')
        if unknown := _unknown(body):
            text = f"failed to create typed patch object ({key[3]}): {unknown}: field not declared in schema"
            return 500, _status(500, text)
        live = self.objects.get(key)
        try:
            result, owners = applied(
                live, body, query["fieldManager"][0], force=query.get("force") == ["true"]
            )
        except Conflict as error:
            return 409, _status(409, f"Apply failed with 1 conflict: {error}")
        _defaults(result)
        before = {k: v for k, v in (live or {}).items() if k in ("spec", "data", "metadata")}
        same = live is not None and before == {k: v for k, v in result.items() if k in before}
        if query.get("dryRun") == ["All"]:
            return 200, result
        if not same:
            self.version += 1
            result["metadata"]["resourceVersion"] = str(self.version)
            if live is None:
                self._stamp(result, key)
            elif live.get("spec") != result.get("spec"):
                result["metadata"]["generation"] = live["metadata"]["generation"] + 1
                self.made[key] = time.monotonic()
            self.written.append(("apply", result["kind"], key[3]))
            result["_owners"] = owners
            self.objects[key] = result
            if live is None and result["kind"] == "Trigger":
                self._subscribe(key, result)
        else:
            self.objects[key]["_owners"] = owners
        return (200 if live is not None else 201), self.shown(key)

    def delete(self, key: Key) -> bool:
        """DELETE."""
        item = self.objects.get(key)
        if item is None:
            return False
        self.written.append(("delete", item["kind"], key[3]))
        now = time.monotonic()
        if item["kind"] == "Trigger":
            uid = item["metadata"]["uid"]
            subscriptions = [k for k, o in self.objects.items() if o.get("spec", {}).get("trigger") == uid]
            for sub in subscriptions:
                self.deleted.append((now, self.objects.pop(sub)["metadata"]["uid"]))
        del self.objects[key]
        return True

    def settle(self) -> None:
        """What eventing's controller does: it takes out subscribers that are gone, from a list of its own."""
        now = time.monotonic()
        for at, uid in list(self.deleted):
            if now - at < self.lag:
                continue
            self.deleted.remove((at, uid))
            others = [o for o, u in self.deleted if u != uid]
            if any(abs(o - at) < self.lag for o in others):
                continue  # overwritten by the other one's list
            for item in self.objects.values():
                if item["kind"] == "InMemoryChannel" and "subscribers" in item.get("spec", {}):
                    item["spec"]["subscribers"] = [s for s in item["spec"]["subscribers"] if s["uid"] != uid]

    def shown(self, key: Key) -> Object:
        """An object with the status that its controller has written by now."""
        item = {k: v for k, v in self.objects[key].items() if k != "_owners"}
        stuck = self.stuck.get((item["kind"], key[3]))
        if stuck is not None:
            return {**item, "status": {"observedGeneration": item["metadata"]["generation"], **stuck}}
        if item["kind"] == "Pod" and "status" not in item:
            return {
                **item,
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            }
        if item["kind"] in READY and item["apiVersion"] != "v1":
            ready = time.monotonic() - self.made[key] >= self.delay
            item["status"] = {
                "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
                "observedGeneration": item["metadata"]["generation"],
            }
            host = f"http://{key[3]}.{key[2]}.svc.cluster.local"
            if item["kind"] == "Broker" and ready:
                item["status"]["address"] = {"url": f"http://real-ingress.eventing/{key[2]}/{key[3]}"}
            if item["kind"] == "Service" and ready:
                item["status"] |= {"url": f"http://{key[3]}.{key[2]}.example.com", "address": {"url": host}}
        return item

    def _stamp(self, item: Object, key: Key) -> None:
        self.version += 1
        item["metadata"].setdefault("uid", str(uuid.uuid4()))
        item["metadata"].setdefault("generation", 1)
        item["metadata"].setdefault("creationTimestamp", "2026-11-23T00:00:00Z")
        item["metadata"]["resourceVersion"] = str(self.version)
        item.setdefault("_owners", {})
        self.made[key] = time.monotonic()

    def _subscribe(self, key: Key, trigger: Object) -> None:
        name, namespace = f"{key[3]}-sub", key[2]
        subscription = {
            "apiVersion": "messaging.knative.dev/v1",
            "kind": "Subscription",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"trigger": trigger["metadata"]["uid"]},
        }
        uid = self.add(subscription)["metadata"]["uid"]
        channel = (
            "messaging.knative.dev/v1",
            "inmemorychannels",
            namespace,
            f"{trigger['spec']['broker']}-kne-trigger",
        )
        if channel in self.objects:
            spec = self.objects[channel].setdefault("spec", {})
            spec["subscribers"] = [
                *spec.get("subscribers", []),
                {"uid": uid, "subscriberUri": f"http://x/{key[3]}"},
            ]


def _status(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def _unknown(body: Object) -> str:
    known = {
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "data",
        "type",
        "automountServiceAccountToken",
        "imagePullSecrets",
    }
    return next((f".{key}" for key in body if key not in known), "")


def _defaults(item: Object) -> None:
    """What webhooks fill in."""
    notes = item["metadata"].setdefault("annotations", {})
    if item["kind"] == "Broker":
        notes.setdefault("eventing.knative.dev/broker.class", "MTChannelBasedBroker")
        item.setdefault("spec", {}).setdefault("delivery", {"retry": 10, "backoffDelay": "PT0.2S"})
    if item["apiVersion"] == "serving.knative.dev/v1":
        notes.setdefault("serving.knative.dev/creator", "me")
        item["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    wbufsize = -1
    api: Api

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(parts.query)
        self.api.asked.append((method, parts.path))
        if parts.path.endswith("/exec"):
            self._exec(query)
            return
        for fault in self.api.faults:
            status = fault(method, parts.path)
            if status == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if status:
                self._send(status, _status(status, "etcdserver: request timed out"))
                return
        with self.api.lock:
            self.api.settle()
            status, answer = self._dealt_with(method, parts.path, query, body)
        self._send(status, answer)
        if method != "GET" and status < 300 and "dryRun" not in query and self.api.on_write:
            self.api.on_write(method, parts.path, str(answer.get("kind")))

    def _dealt_with(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        words = path.strip("/").split("/")
        version, rest = (words[1], words[2:]) if words[0] == "api" else ("/".join(words[1:3]), words[3:])
        namespace = rest[1] if rest[0] == "namespaces" and len(rest) > 2 else ""
        plural, *names = rest[2:] if namespace else rest
        if (version, plural) not in KINDS or plural in self.api.missing:
            return 404, _status(404, "the server could not find the requested resource")
        if names[1:] == ["log"]:
            return 200, "\n".join(self.api.logs.get(names[0], [])) + "\n"
        if not names:
            wanted = dict(
                pair.split("=", 1) for pair in query.get("labelSelector", [""])[0].split(",") if pair
            )
            found = [
                self.api.shown(key)
                for key, item in list(self.api.objects.items())
                if key[:2] == (version, plural)
                and namespace in ("", key[2])
                and wanted.items() <= (item["metadata"].get("labels") or {}).items()
            ]
            return 200, {"kind": f"{KINDS[version, plural]}List", "items": found}
        key = (version, plural, namespace, names[0])
        if method == "PATCH":
            assert self.headers["Content-Type"] == "application/apply-patch+yaml"
            assert query["fieldValidation"] == ["Strict"]
            return self.api.apply(key, json.loads(body), query)
        if key not in self.api.objects:
            return 404, _status(404, f'{plural} "{names[0]}" not found')
        if method == "DELETE":
            self.api.delete(key)
            return 200, {"kind": "Status", "status": "Success"}
        return 200, self.api.shown(key)

    def _send(self, status: int, answer: Any) -> None:
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _exec(self, query: dict[str, list[str]]) -> None:
        """Run the command here, over a web socket with the channels of v4."""
        token = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(token.encode()).digest()).decode()
        self.send_response(101)
        for name, text in {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": accept,
            "Sec-WebSocket-Protocol": "v4.channel.k8s.io",
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.flush()
        command = [sys.executable if word == "python3" else word for word in query["command"]]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.api.environment,
        ) as process:
            threading.Thread(target=self._feed, args=(process,), daemon=True).start()
            pumps = [
                threading.Thread(target=self._pump, args=(channel, stream))
                for channel, stream in ((1, process.stdout), (2, process.stderr))
            ]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()
            status = process.wait()
        told: Object = {"status": "Success"}
        if status:
            told = {
                "status": "Failure",
                "details": {"causes": [{"reason": "ExitCode", "message": str(status)}]},
            }
        self._frame(bytes([3]) + json.dumps(told).encode())
        self._frame(struct.pack(">H", 1000), 8)
        self.close_connection = True

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            while True:
                head = self.rfile.read(2)
                if len(head) < 2 or head[0] & 15 == 8:
                    break
                size = head[1] & 127
                size = struct.unpack(">H", self.rfile.read(2))[0] if size == 126 else size
                size = struct.unpack(">Q", self.rfile.read(8))[0] if size == 127 else size
                mask, data = self.rfile.read(4), self.rfile.read(size)
                plain = bytes(b ^ mask[n % 4] for n, b in enumerate(data))
                process.stdin.write(plain[1:])
                process.stdin.flush()
        except (OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _pump(self, channel: int, stream: Any) -> None:
        while data := stream.read1(65536):
            self._frame(bytes([channel]) + data)

    def _frame(self, data: bytes, opcode: int = 2) -> None:
        size = len(data)
        head = bytes([128 | opcode])
        head += (
            bytes([size])
            if size < 126
            else bytes([126]) + struct.pack(">H", size)
            if size < 65536
            else bytes([127]) + struct.pack(">Q", size)
        )
        with self.api.lock:
            self.wfile.write(head + data)
            self.wfile.flush()


def serve(api: Api) -> ThreadingHTTPServer:
    """Serve it on loopback; the caller shuts it down."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def kubeconfig(api: Api, folder: Path, namespace: str = "there") -> Path:
    """A kubeconfig that leads to it."""
    path = folder / "kubeconfig"
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    path.write_text(json.dumps(told))
    return path
