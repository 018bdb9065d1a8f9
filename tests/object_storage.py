"""An object storage that speaks S3 (moto's), on loopback, that can be away, refuse and stumble.

moto has a process of its own: vLLM looks at every object of every module when it starts, which Flask's do not stand.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from pydantic import SecretStr

from labelstream.schemas.settings import LakeSettings

Answer = tuple[str, str]
KEY, SECRET = "a-key-id", "a-s3cret-never-shown"
START_S = 60
OF_A_CONNECTION = {"connection", "transfer-encoding", "content-length", "server", "date"}


class ObjectStorage:
    """What stands before moto: it hands on, or answers itself. What moto holds outlives a stop.

    Args:
        moto: Its port.
        tls: Certificate and key (PEM), for https.

    Attributes:
        fault: What a request is answered instead: a status line, and the code that S3 would give.
        expired: Key ids of credentials that were lent and have ended.
        requests: Method and path of everything that was asked.
    """

    def __init__(self, moto: int, tls: tuple[Path, Path] | None = None) -> None:
        self._moto, self._tls, self._port = moto, tls, 0
        self.fault: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self.expired: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        """Answer, on the same port as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        self._server.daemon_threads = True
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse every connection from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one request."""
        self.requests.append((method, path.partition("?")[0]))
        fault = self._expiry(headers.get("Authorization", "")) or self.fault(*self.requests[-1])
        if fault is None:
            return self._hand_on(method, path, headers, body)
        status, code = fault
        told = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
        return int(status[:3]), {"Content-Type": "application/xml"}, told.encode()

    def _hand_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self._moto)
        connection.request(method, path, body, headers)  # with its Host, which is signed
        found = connection.getresponse()
        return found.status, dict(found.getheaders()), found.read()

    def _expiry(self, authorization: str) -> Answer | None:
        ended = any(f"Credential={key_id}/" in authorization for key_id in self.expired)
        return ("400 Bad Request", "ExpiredToken") if ended else None

    @property
    def endpoint(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._port}"

    def client(self, service: str, key: str = KEY, secret: str = SECRET) -> Any:
        """A client of Amazon's own library."""
        return boto3.client(
            service, "us-east-1", endpoint_url=f"http://{self.endpoint}",
            aws_access_key_id=key, aws_secret_access_key=secret,
        )  # fmt: skip

    def new_bucket(self) -> str:
        """An empty one."""
        name = f"lake-{uuid.uuid4().hex[:8]}"
        self.client("s3").create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str) -> list[str]:
        """Keys of the Parquet files of a bucket."""
        found = self.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
        return [one["Key"] for one in found if one["Key"].endswith(".parquet")]

    def lake(self, folder: Path, bucket: str, **options: Any) -> LakeSettings:
        """Settings of a lake with its catalogue in a folder and its files in a bucket."""
        given = {
            "catalog": f"sqlite:{folder}/lake.sqlite", "data_path": f"s3://{bucket}/some/prefix",
            "s3_endpoint": self.endpoint, "s3_use_ssl": False, "s3_region": "us-east-1",
            "s3_key_id": SecretStr(KEY), "s3_secret": SecretStr(SECRET),
        }  # fmt: skip
        return LakeSettings(**(given | options))

    def new_user(self, *forbidden: str) -> tuple[str, str]:
        """The key id and the secret of one who may do everything in S3 except for some actions."""
        name = f"user-{uuid.uuid4().hex[:8]}"
        statements = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
        statements += [{"Effect": "Deny", "Action": action, "Resource": "*"} for action in forbidden]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam = self.client("iam")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    @contextmanager
    def only_for_users(self) -> Iterator[None]:
        """Meanwhile keys are looked at, and what they may do."""
        self._let_pass("0")
        try:
            yield
        finally:
            self._let_pass("inf")

    def _let_pass(self, requests: str) -> None:
        connection = HTTPConnection("127.0.0.1", self._moto)
        connection.request("POST", "/moto-api/reset-auth", requests)
        assert connection.getresponse().status == 200


def _handler(storage: ObjectStorage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, answer = storage.answer(self.command, self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in OF_A_CONNECTION:
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)
    return Handler


@contextmanager
def moto_server(log: Path) -> Iterator[int]:
    """moto's own command; its port."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield _port_of(process, log)
    finally:
        process.kill()
        process.wait()


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_S
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return int(found[1])


@contextmanager
def object_storage(moto: int, tls: tuple[Path, Path] | None = None) -> Iterator[ObjectStorage]:
    """A front for some tests."""
    storage = ObjectStorage(moto, tls)
    try:
        yield storage
    finally:
        storage.stop()
