"""Settings of the HTTP endpoint and of what can be watched from outside."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from labelstream.schemas.section import Section


def is_loopback(host: str) -> bool:
    """Whether an address, or a name that needs no look-up, is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class EndpointSettings(Section):
    """The HTTP endpoint: where it listens, who may ask, and how much."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0 for any free one.")
    replicas: int = Field(default=1, ge=1, le=1024, description="Number of endpoint replicas.")
    tokens_file: Path | None = Field(
        default=None,
        description="Bearer tokens, hashed: one name and hash a line, made by labelstream token. Read again when it "
        "changes.",
    )
    allow_anonymous: bool = Field(
        default=False, description="Answer without a token; only while host is a loopback address."
    )
    max_body_bytes: int = Field(default=8 << 20, ge=1024, description="Larger requests are refused with 413.")
    max_text_characters: int = Field(
        default=20_000, ge=1, description="Longest text of one product or document; LABELSTREAM_EVENTS_MAX_QUERY_"
        "CHARACTERS bounds the query.",
    )  # fmt: skip
    max_requests: int = Field(
        default=64, ge=1, description="Requests that one replica works on at once; more are refused with 503."
    )
    max_pairs: int = Field(
        default=2000, ge=1, description="Pairs that one replica works on at once; more are refused with 503."
    )
    deadline_s: float = Field(default=30, gt=0, description="A request that takes longer is answered with 504.")
    keep_labels: bool = Field(
        default=False,
        description="Write labels of catalogue products that were asked for to the lake and the labels topic too.",
    )
    champion_interval_s: float = Field(default=2, gt=0, description="How often the registry is asked for the champion.")
    catalogue_interval_s: float = Field(
        default=30, gt=0, description="How often the ranker looks for new products and engagement in the lake."
    )

    @model_validator(mode="after")
    def _anonymous_stays_here(self) -> Self:
        if self.allow_anonymous and not self.is_loopback:
            raise ValueError(f"allow_anonymous needs a loopback host such as 127.0.0.1, not {self.host}")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the endpoint."""
        return is_loopback(self.host)


class ObservabilitySettings(Section):
    """Logs, metrics and traces."""

    log_format: str = Field(
        default="text", pattern="^(text|json)$", description="text for people, json for a log collector (one a line)."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="labelstream run serves Prometheus metrics here; the endpoint has its own /metrics.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of metrics_port.")
    otlp_endpoint: str | None = Field(
        default=None,
        description="OTLP collector over HTTP for traces, such as http://127.0.0.1:4318; unset: none.",
    )
