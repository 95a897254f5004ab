"""Who we are to a registry: Docker's configuration files, credential helpers, and the answer to a challenge.

Nothing secret ever gets into a message, a `repr` or an environment. Helpers and token servers are asked
only when a registry wants it, and once.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from koalja_fn.errors import PackError, Unauthorised
from koalja_fn.pack.oci.messages import Body
from koalja_fn.pack.oci.reference import HUB
from koalja_fn.pack.oci.transport import Transport

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_SCHEME = re.compile(
    r"(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)\s+(?=[A-Za-z0-9_-]+\s*=|$|,)|(?:^|,)\s*(Basic)\s*(?=$|,)"
)
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_ANSWER_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password, or an identity token in place of the password."""

    user: str = field(repr=False)
    secret: str = field(repr=False)
    is_token: bool = False

    @property
    def basic(self) -> str:
        """The Authorization header for Basic."""
        import base64

        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


class Keychain:
    """Credentials by registry, from Docker's configuration and, after it, Podman's."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._known: dict[str, Credentials | None] = {}
        self._lock = threading.Lock()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are looked at, in this order."""
        home = Path(self._environ.get("HOME", "~")).expanduser()
        docker = Path(self._environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
        podman = self._environ.get("REGISTRY_AUTH_FILE")
        runtime = self._environ.get("XDG_RUNTIME_DIR")
        if podman:
            return docker, Path(podman)
        return (docker, Path(runtime) / "containers" / "auth.json") if runtime else (docker,)

    def credentials(self, registry: str) -> Credentials | None:
        """What is kept for the registry; None where nothing is."""
        with self._lock:
            if registry not in self._known:
                found = (self._look(file, registry) for file in self.files)
                self._known[registry] = next((one for one in found if one), None)
            return self._known[registry]

    def _look(self, file: Path, registry: str) -> Credentials | None:
        config = _read(file)
        key = _HUB_KEY if registry == HUB else registry
        helper = _table(config, "credHelpers").get(registry) or config.get("credsStore")
        found = self._ask(str(helper), key, file) if helper else None
        if found:
            return found
        for name, entry in _table(config, "auths").items():
            if _host(name) == _host(key) and isinstance(entry, dict):
                return _entry(entry, file)
        return None

    def _ask(self, helper: str, key: str, file: Path) -> Credentials | None:
        """Run a credential helper; what it prints stays here, also when it fails."""
        if not _HELPER.fullmatch(helper):
            raise PackError(f"'{helper}' is no credential helper", why=f"it is named in {file}")
        import subprocess  # here and not above: most registries are asked without a helper

        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"], input=key.encode(), capture_output=True, timeout=60, check=False
            )
        except FileNotFoundError:
            raise PackError(
                f"{program} is not installed", why=f"{file} names it", cure=f"install it, or mend {file}"
            ) from None
        except subprocess.TimeoutExpired:
            raise PackError(f"{program} did not answer", why="for a minute") from None
        if done.returncode:
            if b"not found" in done.stdout or b"not found" in done.stderr:
                return None
            raise PackError(f"{program} failed", why=f"exit status {done.returncode}", cure=f"{program} list")
        try:
            said = json.loads(done.stdout)
            user, secret = str(said["Username"]), str(said["Secret"])
        except (ValueError, KeyError, TypeError):
            raise PackError(f"{program} answered what no credential helper should") from None
        return Credentials(user, secret, is_token=user == "<token>") if secret else None


@dataclass(frozen=True, slots=True)
class _Token:
    header: str = field(repr=False)
    expires: float


class Authoriser:
    """The Authorization headers for one registry, by what they allow."""

    def __init__(self, registry: str, keychain: Keychain, transport: Transport) -> None:
        self._registry = registry
        self._keychain = keychain
        self._transport = transport
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def header(self, scope: str) -> str | None:
        """The header to send, where one is known that still holds."""
        token = self._tokens.get(scope)
        return token.header if token and token.expires > time.monotonic() else None

    def answer(self, challenges: Sequence[str], scope: str, refused: str | None) -> None:
        """Get a header for the scope after a 401; `refused` is the header that was not good enough."""
        with self._lock:
            known = self.header(scope)
            if known and known != refused:
                return  # another thread was faster
            offered = dict(parse_challenges(challenges))
            if "bearer" in offered:
                self._tokens[scope] = self._bearer(offered["bearer"], scope)
                return
            credentials = self._keychain.credentials(self._registry)
            if "basic" not in offered or credentials is None or credentials.basic == refused:
                raise self.refusal(credentials is not None)
            self._tokens[scope] = _Token(credentials.basic, float("inf"))

    def refusal(self, had: bool | None = None, why: str = "") -> Unauthorised:
        """The error for a registry that does not let us in: where was looked, never what was found."""
        if had is None:
            had = self._keychain.credentials(self._registry) is not None
        files = " and ".join(str(file) for file in self._keychain.files)
        looked = (
            f"the credentials from {files} are not accepted" if had else f"there are none for it in {files}"
        )
        return Unauthorised(
            f"{self._registry} does not let us in",
            why=f"{why}; {looked}" if why else looked,
            cure=f"docker login {self._registry} (or podman login, or a credential helper)",
        )

    def _bearer(self, challenge: Mapping[str, str], scope: str) -> _Token:
        realm = challenge.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not self._transport.allows_plain(parts.netloc):
            raise Unauthorised(
                f"{self._registry} names a token server that isn't encrypted",
                why=parts.netloc or "no address",
            )
        scopes = list(dict.fromkeys([*scope.split(), *challenge.get("scope", "").split()]))
        credentials = self._keychain.credentials(self._registry)
        service = {"service": challenge["service"]} if challenge.get("service") else {}
        headers = {"Accept": "application/json"}
        if credentials and credentials.is_token:
            form = {**service, "grant_type": "refresh_token", "client_id": "koalja-fn"}
            form |= {"scope": " ".join(scopes), "refresh_token": credentials.secret}
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            sent = self._transport.send("POST", realm, headers, Body.of(urlencode(form).encode()))
        else:
            if credentials:
                headers["Authorization"] = credentials.basic
            query = urlencode([*service.items(), *(("scope", one) for one in scopes)])
            sent = self._transport.send("GET", f"{realm}{'&' if parts.query else '?'}{query}", headers)
        with sent as answer:
            if answer.status != 200:
                raise self.refusal(credentials is not None, f"its token server answered {answer.status}")
            return _read_token(answer.read(_ANSWER_LIMIT), self._registry)


def parse_challenges(headers: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The schemes of WWW-Authenticate headers in lower case, with their parameters."""
    for text in headers:
        # Commas stand between schemes and between parameters alike; quoted texts may hold anything.
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', lambda quoted: '"' + "." * (len(quoted[0]) - 2) + '"', text)
        starts = list(_SCHEME.finditer(bare))
        for index, found in enumerate(starts):
            end = starts[index + 1].start() if index + 1 < len(starts) else len(text)
            parameters = {
                key.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
                for key, quoted, plain in _PARAMETER.findall(text[found.end() : end])
            }
            yield (found[1] or found[2]).lower(), parameters


def _read_token(data: bytes, registry: str) -> _Token:
    try:
        said = json.loads(data)
        token = said.get("token") or said.get("access_token")
        lasts = float(said.get("expires_in") or 60)
    except (ValueError, AttributeError, TypeError):
        token, lasts = None, 0.0
    if not isinstance(token, str) or not token or not token.isprintable():
        raise Unauthorised(f"the token server of {registry} gave no token")
    # A fifth of the time is left for clocks and long uploads.
    return _Token(f"Bearer {token}", time.monotonic() + max(lasts, 60.0) * 0.8)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes() or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as problem:
        # The text of a JSON error holds no content, but its `doc` does: the cause is cut off.
        why = problem.strerror if isinstance(problem, OSError) else "it is no JSON"
        raise PackError(f"{file} can't be read", why=str(why), cure="mend it, or log in again") from None
    return data if isinstance(data, dict) else {}


def _table(config: dict[str, Any], key: str) -> dict[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _host(key: str) -> str:
    return key.split("://", 1)[-1].split("/", 1)[0].lower()


def _entry(entry: Mapping[str, Any], file: Path) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials("<token>", str(entry["identitytoken"]), is_token=True)
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]))
    if not entry.get("auth"):
        return None
    import base64

    try:
        user, colon, secret = base64.b64decode(str(entry["auth"])).decode().partition(":")
    except ValueError:  # no base64, or no text in it
        colon = ""
    if not colon:
        raise PackError(
            f"an entry of {file} is damaged", why="'auth' is no user and password", cure="log in again"
        )
    return Credentials(user, secret.rstrip("\0"))
