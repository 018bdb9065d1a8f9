"""labelstream kafka: a local broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelstream.commands.run import stop_signals
from labelstream.console import err
from labelstream.schemas.settings import KafkaSettings


def kafka(
    folder: Annotated[
        Path | None, typer.Option(help="Where the broker keeps its records; left out, a temporary folder.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 4,
) -> None:
    """Run a local Kafka broker until Ctrl-C: Apache Kafka if KAFKA_HOME points at one, else a mock for a first look."""
    from labelstream.streaming.broker import local_broker
    from labelstream.streaming.topics import ensure_topics

    with stop_signals() as stopping, local_broker(folder) as broker:
        environment = broker.settings_environment()
        ensure_topics(kafka_settings(environment), partitions=partitions)
        for name, value in environment.items():
            typer.echo(f"export {name}={value}")
        err.print("the broker is up; put the lines above into another terminal. Ctrl-C ends it.")
        stopping.wait()


def kafka_settings(environment: dict[str, str]) -> KafkaSettings:
    """Kafka settings from the variables of a local broker."""
    prefix = "LABELSTREAM_KAFKA_"
    return KafkaSettings.model_validate({name.removeprefix(prefix).lower(): v for name, v in environment.items()})
