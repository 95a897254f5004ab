"""HTTP as registries need it: kept connections, streamed bodies, patience with a server that falters.

Knows nothing of images or credentials. Many threads may use one `Transport`: each request takes a
connection for itself and gives it back once the answer was read.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from koalja_fn.errors import Unreachable
from koalja_fn.pack.oci.messages import Answer, Body, Broken, words
from koalja_fn.pack.oci.reference import is_loopback

_FALTERING = {408, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_LONGEST_WAIT = 30.0
_CONNECT = 10.0

Origin = tuple[str, str]


class Transport:
    """Connections to servers, kept for the next request."""

    def __init__(
        self,
        *,
        insecure: bool = False,
        timeout: float = 120.0,
        tries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.tries = tries
        self._insecure = insecure
        self._timeout = timeout
        self._sleep = sleep
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def close(self) -> None:
        """Close all connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection in (one for many in idle.values() for one in many):
            connection.close()

    def allows_plain(self, host: str) -> bool:
        """Whether `http:` may be spoken with that host: this machine, or any where that was asked for."""
        return self._insecure or is_loopback(host)

    def pause(self, attempt: int, broken: Broken) -> None:
        """Wait before the next try; raise `Unreachable` when there were enough."""
        if attempt + 1 >= self.tries:
            raise Unreachable("the image registry broke off again and again", why=str(broken)) from broken
        self._sleep(min(broken.wait if broken.wait is not None else 0.1 * 4**attempt, _LONGEST_WAIT))

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Answer:
        """Send a request and try again where that helps; redirects of GET and HEAD are followed."""
        for attempt in range(self.tries):
            try:
                return self._redirected(method, url, dict(headers or {}), body)
            except Broken as broken:
                try:
                    self.pause(attempt, broken)
                except Unreachable as gone:
                    host = urlsplit(url).netloc
                    raise Unreachable(f"{host} does not answer as it should", why=gone.why) from broken
        raise AssertionError("pause() gives up before the loop does")

    def once(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        """Send a request; `Broken` where trying again may help."""
        answer = self._exchange(method, urlsplit(url), url, headers, body)
        if answer.status in _FALTERING:
            wait = answer.headers.get("Retry-After", "")
            why = f"{urlsplit(url).netloc} answered {answer.status}"
            answer.close()
            raise Broken(why, float(wait) if wait.isdigit() else None)
        return answer

    def _redirected(self, method: str, url: str, headers: dict[str, str], body: Body | None) -> Answer:
        for _ in range(6):
            answer = self.once(method, url, headers, body)
            to = answer.headers.get("Location", "")
            if method not in ("GET", "HEAD") or answer.status not in _REDIRECTS or not to:
                return answer
            answer.close()
            next_url = urljoin(url, to)
            if urlsplit(next_url)[:2] != urlsplit(url)[:2]:
                # Storage behind a registry takes signed addresses; our credentials are none of its business.
                headers.pop("Authorization", None)
            if url.startswith("https:") and not next_url.startswith("https:"):
                raise Unreachable(f"{urlsplit(url).netloc} sends us on to an address that isn't encrypted")
            url = next_url
        raise Unreachable(f"{urlsplit(url).netloc} sends us round in circles")

    def _exchange(
        self, method: str, parts: SplitResult, url: str, headers: Mapping[str, str], body: Body | None
    ) -> Answer:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable("the registry names an address that is none", why=f"scheme '{parts.scheme}'")
        if parts.scheme == "http" and not self.allows_plain(parts.netloc):
            raise Unreachable(
                f"{parts.netloc} would be spoken to without encryption",
                cure="use https, or allow it for this registry (--insecure)",
            )
        path = parts.path or "/"
        path += f"?{parts.query}" if parts.query else ""
        origin = (parts.scheme, parts.netloc)
        while True:
            connection, fresh = self._connection(origin, parts)
            try:
                if fresh:
                    self._connect(connection, parts.netloc)
                raw = _roundtrip(connection, method, path, headers, body)
            except (OSError, http.client.HTTPException) as problem:
                connection.close()
                if fresh or body is not None:
                    raise _told(parts.netloc, problem) from problem
                continue  # a kept connection may have been closed meanwhile: that says nothing
            except BaseException:
                connection.close()
                raise
            return Answer(url, raw, lambda keep, c=connection: self._give_back(origin, c, keep))  # type: ignore[misc]

    def _connection(self, origin: Origin, parts: SplitResult) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get(origin)
            if idle:
                return idle.pop(), False
        return self._dial(origin[0], parts), True

    def _connect(self, connection: http.client.HTTPConnection, host: str) -> None:
        """Connect, with less patience than is had with an answer."""
        try:
            connection.connect()
        except TimeoutError as problem:
            raise Unreachable(f"{host} does not answer", why=f"within {_CONNECT:.0f} s") from problem
        connection.sock.settimeout(self._timeout)

    def _dial(self, scheme: str, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_CONNECT)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        proxy = _proxy(host)
        if not proxy:
            return http.client.HTTPSConnection(host, port, timeout=_CONNECT, context=self._tls)
        tunnel = http.client.HTTPSConnection(
            proxy.hostname or "", proxy.port or 3128, timeout=_CONNECT, context=self._tls
        )
        tunnel.set_tunnel(host, port or 443)
        return tunnel

    def _give_back(self, origin: Origin, connection: http.client.HTTPConnection, keep: bool) -> None:
        if not keep:
            connection.close()
            return
        with self._lock:
            self._idle.setdefault(origin, []).append(connection)


def _roundtrip(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Body | None,
) -> http.client.HTTPResponse:
    sent = {"User-Agent": "koalja-fn", "Accept-Encoding": "identity", **headers}
    if body is not None or method in ("POST", "PUT", "PATCH"):
        sent["Content-Length"] = str(body.size if body else 0)
    try:
        connection.request(method, path, body.chunks() if body and body.size else None, sent)
    except (BrokenPipeError, ConnectionResetError):
        # A server may refuse before all was sent; then its answer waits in the socket.
        if connection.sock is None:
            raise
        return connection.getresponse()
    return connection.getresponse()


def _told(host: str, problem: Exception) -> Exception:
    """What a failed connection means: some are worth another try, others are not."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{host} can't prove who it is",
            why=problem.verify_message,
            cure="name its certificate authority in SSL_CERT_FILE",
        )
    if isinstance(problem, socket.gaierror):
        return Unreachable(f"there is no host {host}", why=words(problem), cure="look at the registry's name")
    if isinstance(problem, ConnectionRefusedError):
        return Unreachable(
            f"nobody listens at {host}", why="the connection was refused", cure="start the registry"
        )
    if isinstance(problem, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(problem):
        return Unreachable(
            f"{host} does not speak HTTPS",
            cure="if it is meant to be without encryption, allow that (--insecure)",
        )
    return Broken(f"{host}: {words(problem)}")


def _proxy(host: str) -> SplitResult | None:
    if not any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ) or is_loopback(host):
        return None
    from urllib.request import getproxies, proxy_bypass

    found = getproxies()
    address = found.get("https") or found.get("all")
    return urlsplit(address) if address and not proxy_bypass(host) else None
