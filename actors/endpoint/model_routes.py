"""What every route that asks a model has at hand."""

from __future__ import annotations

from dataclasses import dataclass

from labelstream.actors.endpoint.services import Services
from labelstream.actors.endpoint.telemetry import Telemetry
from labelstream.actors.endpoint.texts import TextLimits
from labelstream.actors.endpoint.work import Workroom


@dataclass(frozen=True)
class ModelRoutes:
    """Routes that cost something: they have the models, and the bounds of what may be asked of them."""

    services: Services
    telemetry: Telemetry
    workroom: Workroom
    limits: TextLimits
