"""The lake with its files on object storage: everything that is done to files, and everything that can go wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import self_signed
from lakes import EVENTS, a_commit, all_settings, count, label_rows, product_rows, query_rows
from object_storage import KEY, SECRET, ObjectStorage, moto_server, object_storage
from postgres import postgres_server
from pydantic import SecretStr

from labelstream.schemas.errors import LakeUnavailable, SettingsError
from labelstream.schemas.product import Product
from labelstream.schemas.settings import LakeSettings
from labelstream.streaming.commit import Commit
from labelstream.streaming.lake import Lake
from labelstream.streaming.maintenance import compact
from labelstream.streaming.object_storage import StorageKey
from labelstream.streaming.writer import LakeWriter

MANY = 20  # rows of one insert: more than stay in the catalogue


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as port:
        yield port


@pytest.fixture(scope="module")
def storage(moto: int) -> Iterator[ObjectStorage]:
    with object_storage(moto) as running:
        yield running


@pytest.fixture(autouse=True)
def alone(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No credentials of whoever runs the tests, and no fault of another test."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
    storage.fault = lambda _method, _path: None


@pytest.fixture
def bucket(storage: ObjectStorage) -> str:
    return storage.new_bucket()


@pytest.fixture
def settings(storage: ObjectStorage, tmp_path: Path, bucket: str) -> LakeSettings:
    return storage.lake(tmp_path, bucket)


@pytest.fixture
def lake(settings: LakeSettings) -> Iterator[Lake]:
    with Lake(settings) as opened:
        yield impatient(opened)


def impatient(lake: Lake) -> Lake:
    """Tries again as often as ever, without the waits in between."""
    lake.execute("SET GLOBAL http_retry_wait_ms = 1")
    return lake


def read_files(lake: Lake) -> float:
    """The sum of a column of all labels, so that no number of the catalogue would do."""
    return float(lake.query("SELECT sum(expected_score) FROM labels")[0][0])


def batch(number: int) -> Commit:
    products = product_rows(Product(product_id=f"p{number % 2}", title=f"Sofa {number}"))
    keys = range(number * MANY, (number + 1) * MANY)
    return a_commit(number, tables={"labels": label_rows(*keys), "products": products})


# --- what is written is there


def test_a_lake_lives_on_object_storage_alone(lake: Lake, storage: ObjectStorage, bucket: str, tmp_path: Path):
    for number in range(3):
        assert lake.commit(batch(number))
    last = batch(3)
    assert lake.commit(last)
    assert not lake.commit(last)
    assert lake.offsets() == {(EVENTS, 0): 4}
    assert (count(lake, "labels"), count(lake, "products")) == (4 * MANY, 2)
    files = storage.objects(bucket)
    assert len([file for file in files if file.startswith("some/prefix/main/labels/")]) == 4
    assert {file.name.partition("-")[0] for file in tmp_path.iterdir()} == {"lake.sqlite"}


READ = """
from labelstream.schemas.settings import Settings
from labelstream.streaming.lake import Lake

with Lake(Settings.load().lake, read_only=True) as lake:
    print(lake.query("SELECT count(*), sum(expected_score) FROM labels"), lake.offsets())
"""


def variables(settings: LakeSettings) -> dict[str, str]:
    """Settings as the environment of a process."""
    given = settings.model_dump(exclude_defaults=True)
    return {f"LABELSTREAM_LAKE_{name}".upper(): _text(value) for name, value in given.items()}


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def test_another_process_reads_it(lake: Lake, settings: LakeSettings):
    lake.commit(batch(0))
    environment = os.environ | variables(settings)
    done = subprocess.run(
        [sys.executable, "-c", READ], check=False, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == f"[({MANY}, {MANY / 2})] {{('{EVENTS}', 0): 1}}", done.stderr


def test_a_reader_sees_old_and_new_snapshots_and_writes_nothing(
    lake: Lake, settings: LakeSettings, storage: ObjectStorage
):
    lake.commit(batch(0))
    then = lake.snapshot
    storage.requests.clear()
    with Lake(settings, read_only=True) as reader:
        assert storage.requests == []  # to open it costs no request
        lake.commit(batch(1))
        assert count(reader, "labels") == 2 * MANY
        assert reader.query(f"SELECT sum(expected_score) FROM labels AT (VERSION => {then})") == [(MANY / 2,)]
        with pytest.raises(SettingsError, match="read-only"):
            reader.commit(batch(2))


def test_a_store_is_rebuilt_from_it(storage: ObjectStorage, tmp_path: Path, bucket: str):
    lake = storage.lake(tmp_path, bucket)
    for machine in ("a", "b"):
        writer = LakeWriter(all_settings(tmp_path / machine, lake=lake))
        if machine == "a":
            writer.commit(batch(0))
        with writer._store.reader() as reader:
            assert reader.has_label(f"{MANY - 1:032x}")
            assert reader.product_by_id("p0") is not None
        writer.close()


@pytest.mark.parametrize("catalogue", ["sqlite", "postgres"])
def test_compaction_leaves_one_file_and_a_day_to_those_who_still_read(
    storage: ObjectStorage, tmp_path: Path, bucket: str, catalogue: str
):
    if catalogue == "sqlite":
        compacts_with_a_days_grace(storage, storage.lake(tmp_path, bucket), bucket)
        return
    with postgres_server() as server:
        settings = storage.lake(tmp_path, bucket, catalog=server.new_database())
        compacts_with_a_days_grace(storage, settings, bucket)


def compacts_with_a_days_grace(storage: ObjectStorage, settings: LakeSettings, bucket: str) -> None:
    def labels() -> list[str]:
        return [key for key in storage.objects(bucket) if "/labels/" in key]

    with Lake(settings) as lake, Lake(settings, read_only=True) as reader:
        for number in range(6):
            lake.commit(batch(number))
        assert len(before := labels()) == 6
        assert len(list(compact(lake, 0))) == 5
        assert {*before} < {*labels()}  # a query that runs may still want them
        assert lake.query("SELECT data_file FROM ducklake_list_files('lake', 'labels')")[0][0].startswith("s3://")
        lake.execute(
            "UPDATE __ducklake_metadata_lake.ducklake_files_scheduled_for_deletion "
            "SET schedule_start = schedule_start::TIMESTAMPTZ - INTERVAL 2 DAY"  # by any clock
        )
        *_, last = compact(lake, 0)
        assert last.files >= 6
        [merged] = labels()
        assert merged not in before
        for one in (lake, reader):
            assert one.query("SELECT count(*), sum(expected_score) FROM labels") == [(6 * MANY, 3 * MANY)]


def test_a_batch_that_fails_leaves_no_file(lake: Lake, storage: ObjectStorage, bucket: str):
    products = product_rows(Product(product_id="p", title="Sofa"))
    with pytest.raises(SettingsError):
        lake.commit(a_commit(0, tables={"products": products, "labels": query_rows("not a label")}))
    assert ("PUT", "products") in {(method, path.split("/")[-2]) for method, path in storage.requests}
    assert storage.objects(bucket) == []
    assert lake.offsets() == {}


# --- storage that is away


def test_storage_that_goes_away_costs_a_retry_and_nothing_else(tmp_path: Path, bucket: str, storage: ObjectStorage):
    writer = LakeWriter(all_settings(tmp_path, lake=storage.lake(tmp_path, bucket)))
    impatient(writer._lake)
    writer.commit(batch(0))
    commit = batch(1)
    storage.stop()
    try:
        with pytest.raises(LakeUnavailable, match="LABELSTREAM_LAKE_S3_ENDPOINT"):
            writer.commit(commit)
    finally:
        storage.start()
    assert not writer.commit(commit).repeated
    assert writer.commit(commit).repeated
    assert (count(writer._lake, "labels"), writer.totals()["labelled"]) == (2 * MANY, 2 * MANY)
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        ("500 Internal Server Error", "InternalError"),
        ("503 Slow Down", "SlowDown"),
        ("502 Bad Gateway", ""),
        ("429 Too Many Requests", "TooManyRequests"),
        ("409 Conflict", "OperationAborted"),
        ("400 Bad Request", "RequestTimeout"),
        ("507 Insufficient Storage", "XMinioStorageFull"),
    ],
    ids=lambda answer: answer[0],
)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_what_storage_mends_itself_is_tried_again(
    lake: Lake, settings: LakeSettings, storage: ObjectStorage, method: str, answer: tuple[str, str]
):
    lake.commit(batch(0))
    storage.fault = lambda asked, _: answer if asked == method else None
    with Lake(settings, read_only=True) as reader, pytest.raises(LakeUnavailable, match=answer[0][:3]):
        _ = lake.commit(batch(1)) if method == "PUT" else read_files(impatient(reader))
    storage.fault = lambda _method, _path: None
    assert lake.commit(batch(1))
    assert count(lake, "labels") == 2 * MANY


def test_one_stumble_is_not_even_noticed(lake: Lake, storage: ObjectStorage):
    stumbled: set[tuple[str, str]] = set()

    def first_time(method: str, path: str) -> tuple[str, str] | None:
        new = (method, path) not in stumbled
        stumbled.add((method, path))
        return ("503 Slow Down", "SlowDown") if new else None

    storage.fault = first_time
    assert lake.commit(batch(0))
    assert read_files(lake) == MANY / 2
    assert {method for method, _ in stumbled} == {"PUT", "GET"}


@pytest.mark.parametrize("host", ["127.0.0.1:{free}", "no-such-host.invalid:9000"])
def test_an_endpoint_that_is_not_there_is_named_and_makes_no_lake(storage: ObjectStorage, tmp_path: Path, host: str):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        endpoint = host.format(free=unused.getsockname()[1])
        with pytest.raises(LakeUnavailable, match="LABELSTREAM_LAKE_S3_ENDPOINT") as caught:
            Lake(storage.lake(tmp_path, "bucket", s3_endpoint=endpoint))
    assert endpoint in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- settings that are wrong


def refused(settings: LakeSettings, *names: str) -> str:
    """The message with which a lake is not opened; it names settings, and no secret."""
    with pytest.raises(SettingsError) as caught:
        Lake(settings)
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert all(f"LABELSTREAM_LAKE_{name}" in shown for name in names), shown
    assert SECRET not in shown
    return shown


def test_a_bucket_that_is_not_there_is_named_and_makes_no_lake(storage: ObjectStorage, tmp_path: Path):
    assert "no-such-bucket" in refused(storage.lake(tmp_path, "no-such-bucket"), "DATA_PATH")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_key_is_named_and_no_secret_shown(storage: ObjectStorage, tmp_path: Path, bucket: str):
    key, secret = storage.new_user()
    readers_key, readers_secret = storage.new_user("s3:PutObject")
    cases = {(KEY, SECRET): "InvalidAccessKeyId", (key, SECRET): "SignatureDoesNotMatch"}
    cases[readers_key, readers_secret] = "AccessDenied"
    with storage.only_for_users():
        for given, code in cases.items():
            options = dict(zip(("s3_key_id", "s3_secret"), map(SecretStr, given), strict=True))
            shown = refused(storage.lake(tmp_path, bucket, **options), "S3_KEY_ID", "S3_SECRET")
            assert code in shown
            assert given[1] not in shown
        right = storage.lake(tmp_path, bucket, s3_key_id=SecretStr(key), s3_secret=SecretStr(secret))
        Lake(right).close()


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (("301 Moved Permanently", "PermanentRedirect"), "S3_REGION"),
        (("400 Bad Request", "AuthorizationHeaderMalformed"), "S3_REGION"),
        (("403 Forbidden", "AccessDenied"), "S3_KEY_ID"),
        (("405 Method Not Allowed", "MethodNotAllowed"), "S3_ENDPOINT"),
        (("501 Not Implemented", "NotImplemented"), "S3_ENDPOINT"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_what_no_other_try_mends_names_the_setting(
    storage: ObjectStorage, settings: LakeSettings, answer: tuple[str, str], name: str
):
    storage.fault = lambda _method, _path: answer
    refused(settings, name)


def test_names_in_an_address_decide_nothing(storage: ObjectStorage, settings: LakeSettings):
    storage.fault = lambda _method, _path: ("403 Forbidden", "AccessDenied")
    refused(settings.model_copy(update={"data_path": "s3://busy-retry/timed-out/HTTP-503"}), "S3_KEY_ID")


def test_a_certificate_is_checked_and_may_be_of_ones_own(moto: int, bucket: str, tmp_path: Path):
    certificate, key = self_signed(tmp_path)
    with object_storage(moto, (certificate, key)) as encrypted:
        settings = encrypted.lake(tmp_path, bucket, s3_use_ssl=True)
        refused(settings, "S3_CAFILE")
        with Lake(settings.model_copy(update={"s3_cafile": certificate})) as lake:
            assert lake.commit(batch(0))
            assert read_files(lake) == MANY / 2


# --- credentials of the environment


def lend(monkeypatch: pytest.MonkeyPatch, key_id: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


def test_without_a_key_the_environment_is_asked(
    storage: ObjectStorage, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    settings = storage.lake(tmp_path, bucket, s3_key_id=None, s3_secret=None)
    assert "no credentials" in refused(settings, "S3_KEY_ID", "S3_SECRET")
    lend(monkeypatch, *storage.new_user())
    with storage.only_for_users(), Lake(settings) as lake:
        assert lake.commit(a_commit(0))


def test_lent_credentials_are_renewed_for_readers_and_writers(
    storage: ObjectStorage, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    now = 0.0
    settings = storage.lake(tmp_path, bucket, s3_key_id=None, s3_secret=None)
    lend(monkeypatch, "the-first-key", SECRET)
    with Lake(settings) as lake, Lake(settings, read_only=True) as reader:
        for one in (lake, reader):
            one._key = StorageKey(one._connection, settings, lambda: now)
        lend(monkeypatch, "the-second-key", SECRET)
        storage.expired.add("the-first-key")
        with pytest.raises(LakeUnavailable, match="ExpiredToken"):
            lake.commit(batch(0))
        now = 300.0
        assert lake.commit(batch(0))
        assert read_files(reader) == MANY / 2
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        now = 600.0
        with pytest.raises(LakeUnavailable, match="no credentials now"):
            lake.commit(batch(1))


def test_credentials_of_our_own_are_never_asked_for_again(lake: Lake, settings: LakeSettings):
    assert KEY in lake.query("SELECT secret_string FROM duckdb_secrets()")[0][0]
    StorageKey(lake._connection, settings, lambda: 1e9).renew()
    lake.commit(batch(0))
