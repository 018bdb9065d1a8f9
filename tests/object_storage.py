"""An object storage that speaks S3 (moto's), on loopback, that can be away, refuse and stumble."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.core.authorization import disable_iam_authentication
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pydantic import SecretStr
from werkzeug.serving import make_server

from labelstream.schemas.settings import LakeSettings

Answer = tuple[str, str]
KEY, SECRET = "a-key-id", "a-s3cret-never-shown"


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing."""


class ObjectStorage:
    """One server, in a thread: what it holds outlives a stop.

    Args:
        tls: Certificate and key (PEM), for https.

    Attributes:
        fault: What a request is answered instead: a status line, and the code that S3 would give.
        expired: Key ids of credentials that were lent and have ended.
        requests: Method and path of everything that was asked.
    """

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._tls = (str(tls[0]), str(tls[1])) if tls else None
        self._port = 0
        self.fault: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self.expired: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        """Answer, on the same port as before."""
        self._server = make_server(
            "127.0.0.1", self._port, self._answer, threaded=True, request_handler=_Quiet, ssl_context=self._tls
        )
        self._port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse every connection from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environment: Any, start_response: Any) -> Iterable[bytes]:
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        self.requests.append((method, path))
        fault = self._expiry(environment.get("HTTP_AUTHORIZATION", "")) or self.fault(method, path)
        if fault is None:
            answer: Iterable[bytes] = self._app(environment, start_response)
            return answer
        status, code = fault
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()]

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
        with disable_iam_authentication():
            iam = self.client("iam")
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]


@contextmanager
def object_storage(tls: tuple[Path, Path] | None = None) -> Iterator[ObjectStorage]:
    """A server for some tests."""
    storage = ObjectStorage(tls)
    try:
        yield storage
    finally:
        storage.stop()
