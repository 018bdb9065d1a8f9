"""Where the lake's Parquet files are: a folder, or object storage that speaks S3."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from labelstream.schemas.section import Section

_REMOTE = re.compile(r"s3://[A-Za-z0-9._-]+(/[^?*'\[\]\s]*)?")
_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^/:@?\s]+)(:\d+)?")


class StorageSettings(Section):
    """Part of the lake's settings; ``streaming/object_storage.py`` goes by them."""

    data_path: str = Field(
        default=".labelstream/lake", description="Folder or object storage prefix (s3://…) of the Parquet files."
    )
    s3_endpoint: str | None = Field(default=None, description="Object storage endpoint, host:port; unset: Amazon's.")
    s3_region: str | None = Field(default=None, description="Object storage region.")
    s3_url_style: Literal["path", "vhost"] | None = Field(
        default=None,
        description="path: endpoint/bucket. vhost: bucket.endpoint. Unset: path where there is an endpoint.",
    )
    s3_use_ssl: bool = Field(default=True, description="TLS towards object storage.")
    s3_cafile: Path | None = Field(
        default=None, description="CA certificates (PEM) to trust for object storage; unset: the system's."
    )
    s3_key_id: SecretStr | None = Field(
        default=None, description="Object storage key id; unset: the environment's credentials. Never printed."
    )
    s3_secret: SecretStr | None = Field(default=None, description="Object storage secret; never printed.")

    @property
    def is_remote(self) -> bool:
        """Whether the files are on object storage."""
        return "://" in self.data_path

    @field_validator("data_path")
    @classmethod
    def _is_a_folder_or_s3(cls, data_path: str) -> str:
        if "://" in data_path and not _REMOTE.fullmatch(data_path):
            raise ValueError("must be a folder or s3://bucket/prefix, without spaces, wildcards and parameters")
        return data_path

    @field_validator("s3_endpoint")
    @classmethod
    def _is_host_and_port(cls, endpoint: str | None) -> str | None:
        if endpoint and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError("must be host:port; LABELSTREAM_LAKE_S3_USE_SSL says whether it is https")
        return endpoint

    @field_validator("s3_secret")
    @classmethod
    def _belongs_to_a_key_id(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if "s3_key_id" in info.data and bool(secret) != bool(info.data["s3_key_id"]):
            raise ValueError("belongs to LABELSTREAM_LAKE_S3_KEY_ID: set both or none")
        return secret
