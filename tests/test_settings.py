from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labelstream.cli import app
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.model_settings import LabellerSettings
from labelstream.schemas.settings import KafkaSettings, LakeSettings, Settings

SECRET = "s3cr3t-never-shown"
SECRETS = ("KAFKA_SASL_PASSWORD", "KAFKA_SSL_PASSWORD", "LAKE_S3_KEY_ID", "LAKE_S3_SECRET")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.upper().startswith("LABELSTREAM_"):
            monkeypatch.delenv(name)


def test_the_defaults_work():
    settings = Settings.load()
    assert settings.kafka.group == "labelstream"
    assert settings.events.actions["click"] == "click"
    assert settings.scale.levels == ("irrelevant", "moderate", "high")


@pytest.mark.parametrize(
    ("variable", "value", "section", "name", "expected"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2", "kafka", "bootstrap_servers", "a:1,b:2"),
        ("STREAM_BATCHES_IN_FLIGHT", "5", "stream", "batches_in_flight", 5),
        ("LAKE_S3_USE_SSL", "false", "lake", "s3_use_ssl", False),
        ("STORE_PATH", "/data/store", "store", "path", Path("/data/store")),
        ("SCALE_LEVELS", '["bad", "good"]', "scale", "levels", ("bad", "good")),
        ("EVENTS_ACTIONS", '{"buy": "purchase"}', "events", "actions", {"buy": "purchase"}),
        ("POLARIZATION_PRESET", "strict", "polarization", "preset", "strict"),
        ("LABELLER_ENFORCE_EAGER", "true", "labeller", "enforce_eager", True),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, section: str, name: str, expected: object
):
    monkeypatch.setenv(f"LABELSTREAM_{variable}", value)
    assert getattr(getattr(Settings.load(), section), name) == expected


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_KAFKA_GROUP", "from-environment")
    assert Settings.load(kafka=KafkaSettings(group="from-code")).kafka.group == "from-code"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STREAM_REPLICAS", "many"),
        ("STREAM_REPLICAS", "0"),
        ("KAFKA_GRUOP", "x"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("LAKE_CATALOG", "mysql:x"),
        ("LAKE_CATALOG", "postgres:host=db password=x"),
        ("LAKE_CATALOG", "postgres:postgresql://user:x@db/lake"),
        ("LAKE_DATA_PATH", "gs://bucket/lake"),
        ("LAKE_DATA_PATH", "s3://bucket/lake?s3_secret_access_key=x"),
        ("LAKE_DATA_PATH", "s3:///lake"),
        ("LAKE_S3_ENDPOINT", "https://minio:9000"),
        ("LAKE_S3_ENDPOINT", "minio:9000/bucket"),
        ("LAKE_S3_SECRET", "without a key id"),
        ("LAKE_S3_URL_STYLE", "host"),
        ("EVENTS_ACTIONS", "{bad"),
        ("EVENTS_ACTIONS", '["click"]'),
        ("EVENTS_ACTIONS", '{"buy": "bought"}'),
        ("SCALE_LEVELS", "bad,good"),
        ("LABELLER_ADAPTER", "folder"),
        ("LABELLER_MAX_REPLICAS", "0"),
        ("LABELLER_MAX_REPLICAS", "2000"),
        ("LABELLER_DRAIN_TARGET_S", "0"),
        ("KAFKA", "{bad"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(f"LABELSTREAM_{variable}", value)
    with pytest.raises(SettingsError, match=f"LABELSTREAM_{variable}"):
        Settings.load()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LABELER_MODEL", "LABELLER_MODEL"),  # no such section, and so nobody would have looked at it
        ("labeler_model", "LABELLER_MODEL"),
        ("ENCODR_ENABLED", "ENCODER_ENABLED"),
        ("KAFKA_GRUOP", "KAFKA_GROUP"),
    ],
)
def test_a_misspelt_variable_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, variable: str, meant: str):
    monkeypatch.setenv(f"LABELSTREAM_{variable}", "x")
    with pytest.raises(SettingsError, match=f"{variable.upper()}: there is no such setting.* LABELSTREAM_{meant}\\?"):
        Settings.load()


def test_a_variable_that_kubernetes_made_is_explained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_ENDPOINT_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match=r"ENDPOINT_SERVICE_HOST: there is no such setting.*enableServiceLinks"):
        Settings.load()


@pytest.mark.parametrize("variable", ["TEST_DATA", "SERVICE_HOST", "PORT_8000_TCP_ADDR", "HOME"])
def test_other_variables_with_our_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv(f"LABELSTREAM_{variable}", "x")
    assert Settings.load() == Settings()


@pytest.mark.parametrize("section", ["LABELLER", "ENCODER"])
@pytest.mark.parametrize("value", ["0.5", "29.9", "-1", "nan"])
def test_a_healthy_replica_has_the_time_to_answer(monkeypatch: pytest.MonkeyPatch, section: str, value: str):
    variable = f"LABELSTREAM_{section}_ANSWER_TIMEOUT_S"
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable}: must be at least 30 seconds: .*restarted"):
        Settings.load()
    monkeypatch.setenv(variable, "30")
    assert getattr(Settings.load(), section.lower()).answer_timeout_s == 30


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_STREAM_REPLICAS", "many")
    monkeypatch.setenv("LABELSTREAM_LAKE_THREADS", "0")
    with pytest.raises(SettingsError, match=r"LAKE_THREADS.*; LABELSTREAM_STREAM_REPLICAS"):
        Settings.load()


def test_sasl_needs_a_mechanism(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(SettingsError, match="sasl_mechanism"):
        Settings.load()


def test_the_most_labellers_are_not_fewer_than_the_least(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LABELLER_REPLICAS", "4")
    assert Settings.load().labeller.most == 4
    monkeypatch.setenv("LABELSTREAM_LABELLER_MAX_REPLICAS", "3")
    with pytest.raises(
        SettingsError, match=r"LABELLER_MAX_REPLICAS: must be at least LABELSTREAM_LABELLER_REPLICAS.* 4"
    ):
        Settings.load()


def test_the_stream_has_a_labeller_beside_those_of_requests(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_LABELLER_REPLICAS", "3")
    monkeypatch.setenv("LABELSTREAM_LABELLER_RESERVED", "2")
    assert Settings.load().labeller.for_stream([0, 1, 2, 7]) == [2, 7]
    monkeypatch.setenv("LABELSTREAM_LABELLER_RESERVED", "3")
    with pytest.raises(
        SettingsError, match=r"LABELLER_RESERVED: must be less than LABELSTREAM_LABELLER_REPLICAS, which is 3"
    ):
        Settings.load()


def test_an_adapter_has_a_name_and_a_folder():
    assert LabellerSettings(adapter="shop=/models/shop").adapter == "shop=/models/shop"


@pytest.fixture
def with_secrets(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in SECRETS:
        monkeypatch.setenv(f"LABELSTREAM_{name}", SECRET)
    return Settings.load()


def test_secrets_arrive(with_secrets: Settings):
    assert with_secrets.kafka.sasl_password.get_secret_value() == SECRET
    assert with_secrets.lake.s3_secret.get_secret_value() == SECRET


def test_secrets_stay_hidden(with_secrets: Settings):
    shown = (repr(with_secrets), str(with_secrets), with_secrets.model_dump_json(), repr(with_secrets.model_dump()))
    assert all(SECRET not in text for text in shown)


@pytest.mark.usefixtures("with_secrets")
def test_an_error_does_not_show_a_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABELSTREAM_KAFKA_SASL_MECHANISM", SECRET)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("with_secrets")
@pytest.mark.parametrize("arguments", [["settings"], ["settings", "--markdown"]])
def test_the_settings_command_hides_secrets(arguments: list[str]):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert result.exit_code == 0
    assert "LABELSTREAM_LAKE_S3_SECRET" in result.output
    assert SECRET not in result.output


def test_every_setting_says_what_it_does():
    for section in Settings.model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.description, f"{section.annotation.__name__}.{name}"


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        LakeSettings().threads = 2
