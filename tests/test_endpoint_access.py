"""Who may ask, and where nobody needs to say who they are."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from endpoints import InstantServices, client, endpoint_app, inline
from starlette.testclient import TestClient

from labelstream.actors.endpoint.tokens import add_token, remove_token
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.settings import Settings

PAIRS = {"pairs": [inline()]}
GUARDED = [("POST", "/v1/labels"), ("POST", "/v1/rerank"), ("POST", "/v2/rerank"), ("GET", "/v1/models"),
           ("GET", "/metrics"), ("GET", "/v1/nothing"), ("GET", "/page"), ("DELETE", "/v1/labels")]  # fmt: skip
OPEN = ["/", "/healthz", "/readyz", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def token(path: Path) -> str:
    add_token(path, "another")
    return add_token(path, "search-team")


@pytest.fixture
def services() -> InstantServices:
    return InstantServices()


@pytest.fixture
def guarded(services: InstantServices, path: Path, token: str) -> TestClient:
    assert token
    return client(services, tokens_file=path)


def ask(guarded: TestClient, token: str, scheme: str = "Bearer") -> int:
    return guarded.post("/v1/labels", json=PAIRS, headers={"Authorization": f"{scheme} {token}"}).status_code


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_opens(guarded: TestClient, services: InstantServices, token: str, scheme: str):
    assert ask(guarded, token, scheme) == 200
    assert services.requests[0].token_name == "search-team"


@pytest.mark.parametrize(("method", "path_asked"), GUARDED)
def test_without_one_it_stays_closed(guarded: TestClient, method: str, path_asked: str):
    answer = guarded.request(method, path_asked)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="labelstream"'
    assert answer.json()["type"] == "urn:labelstream:problem:unauthorized"


@pytest.mark.parametrize("path_asked", OPEN)
def test_these_are_open(guarded: TestClient, path_asked: str):
    assert guarded.get(path_asked).status_code == 200


@pytest.mark.parametrize("sent", ["Bearer", "Bearer ", "Bearer wrong", "Basic dTpw", "", "Bearer a b", "Bearer \xe9"])
def test_what_is_no_token(guarded: TestClient, services: InstantServices, sent: str):
    answer = guarded.post("/v1/labels", json=PAIRS, headers={"Authorization": sent.encode("latin-1")})
    assert answer.status_code == 401
    assert services.requests == []


def test_two_tokens_are_none(guarded: TestClient, token: str):
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer wrong")]
    assert guarded.get("/v1/models", headers=headers).status_code == 401


def test_a_token_that_was_taken_back(guarded: TestClient, path: Path, token: str):
    assert ask(guarded, token) == 200
    remove_token(path, "search-team")
    assert ask(guarded, token) == 401
    assert ask(guarded, add_token(path, "search-team")) == 200


def test_anonymous_is_asked_for_by_name():
    with pytest.raises(SettingsError, match="labelstream token add"):
        endpoint_app(InstantServices(), allow_anonymous=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_anonymous_stays_on_this_machine(host: str):
    with pytest.raises(SettingsError, match="LABELSTREAM_ENDPOINT: allow_anonymous needs a loopback"):
        Settings.load(endpoint={"allow_anonymous": True, "host": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_anonymous_on_this_machine(host: str, services: InstantServices):
    assert client(services, host=host).post("/v1/labels", json=PAIRS).status_code == 200
    assert services.requests[0].token_name == ""


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8000"])
def test_anonymous_by_a_name_of_this_machine(name: str):
    assert client().get("/v1/models", headers={"Host": name}).status_code == 200


OTHER_NAMES = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:8000",
               "localhost:80:80", "", ":8000", "[::]", "localhost@evil.example", "evil.example:localhost"]  # fmt: skip


@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize("path_asked", ["/v1/models", "/metrics", "/v1/nothing"])
@pytest.mark.parametrize("made_up", [{}, {"Authorization": "Bearer made-up"}])
def test_a_page_whose_name_leads_here_reads_nothing(name: str, path_asked: str, made_up: dict[str, str]):
    """A page can send what it likes, but for the host: that is the name by which it was fetched."""
    answer = client().get(path_asked, headers={"Host": name} | made_up)
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:labelstream:problem:wrong-host"


def test_two_names_are_none():
    twice = [("Host", "localhost"), ("Host", "evil.example")]
    assert client().get("/v1/models", headers=twice).status_code == 421


def test_with_a_token_any_name_will_do(services: InstantServices, path: Path, token: str):
    headers = {"Host": "search.example", "Authorization": f"Bearer {token}"}
    for anonymous in (False, True):
        asked = client(services, tokens_file=path, allow_anonymous=anonymous)
        assert asked.get("/v1/models", headers=headers).status_code == 200


def test_with_both_a_wrong_token_is_still_wrong(services: InstantServices, path: Path, token: str):
    both = client(services, tokens_file=path, allow_anonymous=True)
    assert both.post("/v1/labels", json=PAIRS).status_code == 200
    assert ask(both, token) == 200
    assert ask(both, "wrong") == 401


def test_tokens_are_in_no_log(guarded: TestClient, token: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="labelstream"):
        ask(guarded, token)
        ask(guarded, "wrong-token")
    assert "search-team" in {getattr(record, "token_name", "") for record in caplog.records}
    assert token not in caplog.text
    assert "wrong-token" not in caplog.text
