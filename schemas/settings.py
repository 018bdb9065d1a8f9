"""Every setting, once: its default works on a laptop, its environment variable starts with LABELSTREAM_.

``LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS`` is ``settings.kafka.bootstrap_servers``; lists and maps are JSON.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from labelstream.schemas.endpoint_settings import EndpointSettings, ObservabilitySettings
from labelstream.schemas.errors import SettingsError
from labelstream.schemas.learning_settings import (
    EngagementSettings,
    GateSettings,
    RankerSettings,
    RegistrySettings,
    RetrainSettings,
)
from labelstream.schemas.messages import Engagement
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings, PromptSettings
from labelstream.schemas.polarization import Polarization
from labelstream.schemas.scale import LabelScale, from_json
from labelstream.schemas.section import Section
from labelstream.schemas.setting_names import complaint, misspelt, variables
from labelstream.schemas.storage_settings import StorageSettings

PREFIX = "LABELSTREAM_"


class KafkaSettings(Section):
    """How to reach Kafka and what the topics are called."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="Comma-separated host:port list.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Protocol towards the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"] | None = Field(
        default=None, description="SASL mechanism, with a SASL protocol."
    )
    sasl_username: str | None = Field(default=None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(default=None, description="SASL password; never printed.")
    ssl_cafile: Path | None = Field(default=None, description="CA certificates (PEM) to trust.")
    ssl_certfile: Path | None = Field(default=None, description="Client certificate (PEM).")
    ssl_keyfile: Path | None = Field(default=None, description="Key of the client certificate (PEM).")
    ssl_password: SecretStr | None = Field(default=None, description="Password of the key; never printed.")
    api_version: str | None = Field(
        default=None, description="Protocol version such as 2.0, where the broker cannot be asked (mock cluster)."
    )
    group: str = Field(default="labelstream", min_length=1, description="Consumer group.")
    assignment: Literal["group", "static"] = Field(
        default="group",
        description="group: Kafka spreads partitions over the replicas. static: replica i of n reads the partitions "
        "p with p mod n = i (for brokers without working groups, such as the mock cluster).",
    )
    events_topic: str = Field(default="search-events", description="UBI queries and events, or plain pairs.")
    products_topic: str = Field(default="products", description="Catalogue upserts, compacted.")
    labels_topic: str | None = Field(
        default="relevance-labels", description="Where labels are published (at least once); empty for nowhere."
    )
    dead_letters_topic: str | None = Field(
        default="labelstream-dead-letters", description="Where bad records go beside the table; empty for nowhere."
    )
    session_timeout_ms: int = Field(default=45_000, ge=1000, description="Consumer session timeout.")
    max_poll_interval_ms: int = Field(default=300_000, ge=1000, description="Longest time between two polls.")
    request_timeout_ms: int = Field(default=30_000, ge=1000, description="Longest wait for one answer.")

    @property
    def input_topics(self) -> tuple[str, str]:
        """The topics that are read."""
        return self.events_topic, self.products_topic

    @property
    def output_topics(self) -> tuple[str, ...]:
        """The topics that are written."""
        return tuple(topic for topic in (self.labels_topic, self.dead_letters_topic) if topic)

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism is None:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism")
        return self


class LakeSettings(StorageSettings):
    """Where the tables live."""

    catalog: str = Field(
        default="sqlite:.labelstream/lake.sqlite",
        pattern=r"^(sqlite:.+|postgres:.*)$",
        description="DuckLake catalogue: sqlite:<file> or postgres:<libpq connection string>.",
    )
    memory_limit: str = Field(
        default="1GB", description="DuckDB memory limit of one process; the rest goes to temporary files (TMPDIR)."
    )
    threads: int = Field(default=1, ge=1, description="DuckDB threads of one process.")
    busy_timeout_ms: int = Field(default=5_000, ge=0, description="How long one try waits for a locked catalogue.")

    @property
    def catalog_file(self) -> Path | None:
        """The file of a catalogue in SQLite; None for PostgreSQL."""
        kind, _, target = self.catalog.partition(":")
        return Path(target).absolute() if kind == "sqlite" else None

    @field_validator("catalog")
    @classmethod
    def _catalog_holds_no_password(cls, catalog: str) -> str:
        if re.search(r"password\s*=|://[^@/\s]*:[^@/\s]*@", catalog, re.IGNORECASE):
            raise ValueError("is printed, so it must not hold a password; set PGPASSWORD or use a ~/.pgpass file")
        return catalog


class StoreSettings(Section):
    """The local store (LMDB): what the lake knows, for look-ups in microseconds. Rebuilt when lost."""

    path: Path = Field(default=Path(".labelstream/store"), description="Folder on a local disk, one a machine.")
    max_bytes: int = Field(default=64 << 30, ge=1 << 20, description="Upper bound of the (sparse) file.")


class EventSettings(Section):
    """Which actions of a search log mean what."""

    actions: Annotated[dict[str, Engagement], BeforeValidator(from_json)] = Field(
        default={
            "impression": "impression",
            "view": "impression",
            "product_hover": "impression",
            "click": "click",
            "item_click": "click",
            "product_click": "click",
            "add_to_cart": "add_to_cart",
            "purchase": "purchase",
        },
        description="UBI action_name to engagement kind; other actions are counted and ignored.",
    )
    max_record_bytes: int = Field(default=1 << 20, ge=1024, description="Larger records go to the dead letters.")
    max_query_characters: int = Field(default=1000, ge=1, description="Longer queries go to the dead letters.")


class StreamSettings(Section):
    """Batches, back-pressure and patience."""

    replicas: int = Field(default=1, ge=1, le=1024, description="Number of Ingest actors (consumers of the group).")
    batch_records: int = Field(default=1024, ge=1, description="Records of one batch at most.")
    linger_s: float = Field(default=0.5, ge=0, description="How long a batch waits to fill.")
    batches_in_flight: int = Field(default=3, ge=1, description="Batches being judged or committed at once.")
    catalogue_first_s: float = Field(
        default=600, ge=0, description="At start, how long events wait at most for the catalogue topic to be read."
    )
    revoke_deadline_s: float = Field(
        default=10, ge=0, description="How long a lost partition's batches may finish before they are given back."
    )
    resolve_interval_s: float = Field(default=15, gt=0, description="How often waiting events are looked at again.")
    give_up_s: float = Field(default=300, gt=0, description="A transient error that lasts longer stops the run.")
    hang_s: float = Field(default=120, gt=0, description="An Ingest or Writer silent for longer is restarted.")
    shutdown_s: float = Field(default=30, ge=0, description="After SIGTERM, time for batches in flight to finish.")


class RaySettings(Section):
    """The Ray cluster to run in."""

    address: str | None = Field(
        default=None, description="Existing cluster (auto or host:port); empty starts one here."
    )
    namespace: str = Field(default="labelstream", description="Namespace of the named actors.")
    object_store_bytes: int = Field(default=200 << 20, ge=80 << 20, description="Object store of a local cluster.")
    log_to_driver: bool = Field(default=False, description="Copy the actors' output to the terminal.")
    storage: Path | None = Field(
        default=None,
        description="Folder that all nodes see, for what the workers of a ranker share while they train; unset: the "
        "one that the registry is in, on a single node.",
    )


class Settings(BaseSettings):
    """All settings; ``Settings.load()`` reads the environment and explains what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        enable_decoding=False,  # bad JSON is then a complaint that names its variable, like any other
        frozen=True,
        extra="ignore",
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    lake: LakeSettings = Field(default_factory=LakeSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    events: EventSettings = Field(default_factory=EventSettings)
    scale: LabelScale = Field(default_factory=LabelScale)
    polarization: Polarization = Field(default_factory=Polarization)
    prompt: PromptSettings = Field(default_factory=PromptSettings)
    labeller: LabellerSettings = Field(default_factory=LabellerSettings)
    encoder: EncoderSettings = Field(default_factory=EncoderSettings)
    stream: StreamSettings = Field(default_factory=StreamSettings)
    ray: RaySettings = Field(default_factory=RaySettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    retrain: RetrainSettings = Field(default_factory=RetrainSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    engagement: EngagementSettings = Field(default_factory=EngagementSettings)
    ranker: RankerSettings = Field(default_factory=RankerSettings)
    endpoint: EndpointSettings = Field(default_factory=EndpointSettings)
    observability: ObservabilitySettings = Field(default_factory=ObservabilitySettings)

    @classmethod
    def load(cls, **sections: Any) -> Settings:
        """Read the environment; keyword arguments win over it.

        Raises:
            SettingsError: Names every offending variable.
        """
        known = variables(PREFIX, cls.model_fields)
        complaints = misspelt(os.environ, PREFIX, cls.model_fields, known)
        try:
            settings = cls(**sections)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            raise SettingsError("; ".join([*complaints, *(complaint(one, PREFIX, known) for one in faults)])) from None
        if complaints:
            raise SettingsError("; ".join(complaints))
        return settings
