"""A real Kafka that lets nobody in without a password, speaks TLS, and allows only what somebody has a right to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from certificates import self_signed
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from labelstream.schemas.settings import KafkaSettings
from labelstream.streaming.broker import KafkaCluster, _common_properties
from labelstream.streaming.broker_node import HOST, BrokerNode, free_ports

MECHANISM = "SCRAM-SHA-512"
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"


class SecuredKafka(NamedTuple):
    """A broker with two doors: one for the test itself, and one for everybody else.

    Attributes:
        cluster: The broker.
        administrator: Settings of one who may do everything.
        certificate: Of the broker, by nobody but itself.
    """

    cluster: KafkaCluster
    administrator: KafkaSettings
    certificate: Path

    def user(self, name: str, **changes: Any) -> KafkaSettings:
        """Settings of somebody with a password."""
        return KafkaSettings(
            bootstrap_servers=self.cluster.bootstrap_servers,
            security_protocol="SASL_SSL",
            sasl_mechanism=MECHANISM,
            sasl_username=name,
            sasl_password=SecretStr(password_of(name)),
            ssl_cafile=self.certificate,
        ).model_copy(update=changes)

    def add_user(self, name: str, acls: Iterable[dict[str, Any]]) -> None:
        """Let somebody in, with the rights that a ``KafkaUser`` of Strimzi lists."""
        rights = [
            ACL(
                f"User:{name}",
                "*",
                ACLOperation[_constant(operation)],
                ACLPermissionType.ALLOW,
                ResourcePattern(ResourceType[acl["resource"]["type"].upper()], acl["resource"]["name"]),
            )
            for acl in acls
            for operation in acl["operations"]
        ]
        credential = UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password_of(name))
        with closing(KafkaAdminClient(bootstrap_servers=self.administrator.bootstrap_servers)) as admin:
            admin.alter_user_scram_credentials([credential])
            assert not admin.create_acls(rights)["failed"]


def password_of(name: str) -> str:
    return f"{name} may come in"


def _constant(operation: str) -> str:
    """``DescribeConfigs`` as ``DESCRIBE_CONFIGS``."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in operation).lstrip("_")


@contextmanager
def secured_kafka(home: Path, folder: Path) -> Iterator[SecuredKafka]:
    """Start one; nobody has a password yet."""
    certificate, key = self_signed(folder)
    store = folder / "keystore.pem"
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    open_door, door, controller = free_ports(3)
    own: dict[str, str | int] = {
        "node.id": 1,
        "listeners": f"PLAINTEXT://{HOST}:{open_door},SASL_SSL://{HOST}:{door},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{open_door},SASL_SSL://{HOST}:{door}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "log.dirs": str(folder / "node-1" / "data"),
        "sasl.enabled.mechanisms": MECHANISM,
        f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": f"{LOGIN} required;",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes in by the open door
    }
    node = BrokerNode.create(home, folder / "node-1", _common_properties(1) | own)
    cluster = KafkaCluster(folder, [node], temporary=False)
    with cluster:
        cluster._start_all()
        yield SecuredKafka(cluster, KafkaSettings(bootstrap_servers=f"{HOST}:{open_door}"), certificate)
