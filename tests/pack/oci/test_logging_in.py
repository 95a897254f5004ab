"""Who we are to a registry, and that nobody else hears of it."""

import base64
import json
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from koalja_fn.errors import PackError, Unauthorised
from koalja_fn.pack.oci.auth import Credentials, Keychain, parse_challenges
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import load_base
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from tests.pack.oci.conftest import AMD, PASSWORD, USER, Registry, image
from tests.pack.oci.handmade import Behaviour, handmade

TOKEN = "opaque-token-of-the-test"


def keychain(folder: Path, config: object, **environ: str) -> Keychain:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return Keychain({"DOCKER_CONFIG": str(folder), **environ})


def basic(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_password_from_the_docker_config_lets_us_in(
    guarded: Registry, logged_in: Keychain, tmp_path: Path
) -> None:
    with RegistryClient(keychain=logged_in) as client:
        there = target(f"{guarded.host}/a/b:1")
        published = publish(image(tmp_path, {"/x": b"y"}), there, client)
        assert load_base(there, AMD, client).digest == published.digest


def test_without_credentials_the_file_that_was_looked_at_is_named(
    guarded: Registry, nobody: Keychain
) -> None:
    with RegistryClient(keychain=nobody) as client, pytest.raises(Unauthorised) as refused:
        load_base(target(f"{guarded.host}/x"), AMD, client)
    assert f"{guarded.host} does not let us in" in str(refused.value)
    assert str(nobody.files[0]) in str(refused.value)
    assert "docker login" in str(refused.value)
    assert refused.value.exit_status == 9


def test_a_wrong_password_is_refused_and_never_shown(guarded: Registry, tmp_path: Path) -> None:
    wrong = keychain(tmp_path / "c", {"auths": {guarded.host: basic(password="wr0ng-secret")}})
    with RegistryClient(keychain=wrong) as client, pytest.raises(Unauthorised) as refused:
        load_base(target(f"{guarded.host}/x"), AMD, client)
    told = (
        f"{refused.value!r} {refused.value} {refused.value.__cause__!r} {wrong.credentials(guarded.host)!r}"
    )
    assert "are not accepted" in told
    for secret in ("wr0ng-secret", USER, basic(password="wr0ng-secret")["auth"]):
        assert secret not in told


@pytest.mark.parametrize(
    "key", ["{host}", "http://{host}", "https://{host}/v1/", "https://{host}/v2/"], ids=lambda key: key
)
def test_each_spelling_of_a_registry_in_the_config_is_understood(tmp_path: Path, key: str) -> None:
    chain = keychain(tmp_path / "c", {"auths": {key.format(host="reg.example:5000"): basic()}})
    assert chain.credentials("reg.example:5000") == Credentials(USER, PASSWORD)
    assert chain.credentials("reg.example") is None


def test_docker_hub_has_a_key_of_its_own(tmp_path: Path) -> None:
    chain = keychain(tmp_path / "c", {"auths": {"https://index.docker.io/v1/": basic()}})
    assert chain.credentials("docker.io") == Credentials(USER, PASSWORD)


def test_the_file_of_podman_is_read_after_dockers(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"reg.example": basic()}}))
    chain = keychain(tmp_path / "c", {}, REGISTRY_AUTH_FILE=str(tmp_path / "auth.json"))
    assert chain.credentials("reg.example") == Credentials(USER, PASSWORD)


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = tmp_path / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_credential_helper_is_asked_for_the_registry(
    guarded: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})
    helper(
        tmp_path, monkeypatch, f'read server; [ "$1 $server" = "get {guarded.host}" ] && echo \'{answer}\''
    )
    config = {"credsStore": "test"} if key == "credsStore" else {"credHelpers": {guarded.host: "test"}}
    with RegistryClient(keychain=keychain(tmp_path / "c", config)) as client:
        publish(image(tmp_path, {"/x": key.encode()}), target(f"{guarded.host}/by/{key.lower()}"), client)


def test_a_helper_that_knows_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'echo "credentials not found in native keychain"; exit 1')
    chain = keychain(tmp_path / "c", {"credsStore": "test", "auths": {"reg.example": basic()}})
    assert chain.credentials("reg.example") == Credentials(USER, PASSWORD)
    assert chain.credentials("other.example") is None


def test_what_a_failing_helper_prints_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, f'echo "{PASSWORD}"; exit 3')
    with pytest.raises(PackError) as refused:
        keychain(tmp_path / "c", {"credsStore": "test"}).credentials("reg.example")
    assert "docker-credential-test failed" in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"credsStore": "missing-one"}, "docker-credential-missing-one is not installed"),
        ({"credsStore": "../evil"}, "is no credential helper"),
        ({"auths": {"reg.example": {"auth": "!!"}}}, "is damaged"),
    ],
)
def test_a_config_that_can_not_be_followed_is_explained(tmp_path: Path, config: object, words: str) -> None:
    with pytest.raises(PackError, match=words):
        keychain(tmp_path / "c", config).credentials("reg.example")


def test_a_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f"{{ {PASSWORD}")
    with pytest.raises(PackError, match="can't be read") as refused:
        Keychain({"DOCKER_CONFIG": str(tmp_path)}).credentials("reg.example")
    assert PASSWORD not in str(refused.value)


def test_a_token_is_fetched_with_the_password_and_asked_for_once(tmp_path: Path) -> None:
    how = Behaviour(token=TOKEN)
    with handmade(how) as host:
        how.token_realm = f"http://{host}/token"
        chain = keychain(tmp_path / "c", {"auths": {host: basic()}})
        with RegistryClient(keychain=chain) as client:
            publish(image(tmp_path, {"/x": b"y"}), target(f"{host}/me/app"), client)
        asked = [
            (path, headers)
            for (_, path), headers in zip(how.seen, how.headers, strict=True)
            if path.startswith("/token")
        ]
    assert len(asked) == 1
    query = parse_qs(urlsplit(asked[0][0]).query)
    assert query["service"] == ["handmade"]
    assert query["scope"][0] == "repository:me/app:pull,push"
    assert asked[0][1]["Authorization"] == Credentials(USER, PASSWORD).basic


def test_a_public_image_needs_a_token_but_no_password(tmp_path: Path, nobody: Keychain) -> None:
    how = Behaviour()
    with handmade(how) as host, RegistryClient(keychain=nobody) as client:
        publish(image(tmp_path, {"/x": b"y"}), target(f"{host}/app"), client)
        how.token, how.token_realm = TOKEN, f"http://{host}/token"
        load_base(target(f"{host}/app"), AMD, client)
        (asked,) = [
            h for (_, path), h in zip(how.seen, how.headers, strict=True) if path.startswith("/token")
        ]
    assert "Authorization" not in asked


def test_an_identity_token_is_exchanged_by_post(tmp_path: Path) -> None:
    how = Behaviour(token=TOKEN)
    with handmade(how) as host:
        how.token_realm = f"http://{host}/token"
        chain = keychain(tmp_path / "c", {"auths": {host: {"identitytoken": "refresh-me"}}})
        with RegistryClient(keychain=chain) as client:
            publish(image(tmp_path, {"/x": b"y"}), target(f"{host}/app"), client)
    form = parse_qs(how.bodies[0].decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["refresh-me"]
    assert form["scope"][0].startswith("repository:app:pull,push")


def test_a_password_never_goes_to_a_token_server_without_encryption(tmp_path: Path) -> None:
    how = Behaviour(token=TOKEN, token_realm="http://tokens.example/token")
    with handmade(how) as host:
        chain = keychain(tmp_path / "c", {"auths": {host: basic()}})
        with RegistryClient(keychain=chain) as client, pytest.raises(Unauthorised, match="isn't encrypted"):
            load_base(target(f"{host}/app"), AMD, client)


def test_storage_behind_a_registry_never_sees_our_credentials(tmp_path: Path) -> None:
    storage, how = Behaviour(), Behaviour(token=TOKEN)
    with handmade(how) as host, handmade(storage) as elsewhere:
        how.token_realm = f"http://{host}/token"
        chain = keychain(tmp_path / "c", {"auths": {host: basic()}})
        with RegistryClient(keychain=chain) as client:
            published = publish(image(tmp_path, {"/x": b"y"}), target(f"{host}/app"), client)
            storage.blobs = how.blobs
            how.elsewhere = f"http://{elsewhere}"
            assert load_base(target(f"{host}/app"), AMD, client).digest == published.digest
    assert storage.headers
    assert all("Authorization" not in headers for headers in storage.headers)


def test_challenges_are_told_apart() -> None:
    told = 'Basic realm="a, Bearer b=c", Bearer realm="https://x/t?y=1",service="s",scope="repository:r:pull,push"'
    assert list(parse_challenges([told, "Negotiate", "basic realm=x"])) == [
        ("basic", {"realm": "a, Bearer b=c"}),
        ("bearer", {"realm": "https://x/t?y=1", "service": "s", "scope": "repository:r:pull,push"}),
        ("basic", {"realm": "x"}),
    ]
