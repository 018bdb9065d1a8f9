"""How the files of the page are sent."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from labelstream.actors.endpoint.page import assets, router


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    return TestClient(app)


PATHS = ["/", *(f"/page/{name}" for name in sorted(assets()))]


@pytest.mark.parametrize("path", PATHS)
def test_a_file_is_sent_with_its_guards(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
        "img-src": "'self' data:", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.content
    assert client.head(path).headers == answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_a_browser_that_has_it_does_not_get_it_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["cache-control"] == "no-cache"
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_each_content_has_its_own_etag() -> None:
    etags = [asset.etag for asset in assets().values()]
    assert len(set(etags)) == len(etags)


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpage.py", "%2e%2e%2fpage.py", "index.html%00"])
def test_no_other_file_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize("path", PATHS)
def test_nothing_comes_from_elsewhere(client: TestClient, path: str) -> None:
    addresses = re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]+[^\s\"']*", client.get(path).text)
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
