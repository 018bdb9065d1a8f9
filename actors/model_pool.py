"""The model actors that stream and endpoint share: started, asked who they are, and given back."""

from __future__ import annotations

from itertools import count
from typing import Any

import ray

from labelstream.actors.cluster import NAME_IS_FREE_S, answer_patiently, start_actor
from labelstream.actors.cross_encoder import CrossEncoderActor, cross_encoder_options
from labelstream.actors.labeller import Labeller, labeller_options
from labelstream.schemas.errors import ModelUnusable
from labelstream.schemas.judgements import JudgeDescription
from labelstream.schemas.settings import Settings

MODEL_LOAD_S = 1800.0


class ModelPool:
    """Starts the Labeller and CrossEncoder actors at once, without waiting for their models.

    Args:
        settings: All settings.

    Raises:
        SettingsError: Another labelstream runs under the same names.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._labellers: dict[int, Any] = {}
        for number in range(settings.labeller.replicas):
            self.add_labeller(number)
        self._cross_encoders = [
            start_actor(CrossEncoderActor, cross_encoder_options(settings, index), settings)
            for index in range(settings.encoder.replicas_if_enabled)
        ]

    @property
    def labellers(self) -> dict[int, Any]:
        """Handles, by their number."""
        return dict(self._labellers)

    @property
    def free_number(self) -> int:
        """The lowest one that no Labeller has."""
        return next(number for number in count() if number not in self._labellers)

    @property
    def cross_encoders(self) -> list[Any]:
        """Handles, by their number."""
        return list(self._cross_encoders)

    @property
    def actors(self) -> list[Any]:
        """All of them."""
        return [*self._cross_encoders, *self._labellers.values()]

    def add_labeller(self, number: int, patience_s: float = NAME_IS_FREE_S) -> Any:
        """Start another Labeller, without waiting for its model.

        Args:
            number: One that is free.
            patience_s: How long to wait for its name.

        Returns:
            Its handle.

        Raises:
            SettingsError: Somebody else has its name.
        """
        options = labeller_options(self._settings, number)
        self._labellers[number] = start_actor(Labeller, options, self._settings, number, patience_s=patience_s)
        return self._labellers[number]

    def end_labeller(self, number: int) -> None:
        """End it, whatever it does; its number is free again."""
        ray.kill(self._labellers.pop(number))

    def judge(self) -> JudgeDescription:
        """Who judges; waits until every replica has loaded its model.

        Raises:
            ModelUnusable: It cannot be loaded, or the replicas hold different models.
            ModelUnavailable: A replica has been dead for too long.
        """
        description: JudgeDescription = self._same(list(self._labellers.values()), "labeller")
        return description

    def cross_encoder_version(self) -> str:
        """Which cross-encoder scores; empty where there is none. Waits and raises as ``judge`` does."""
        return str(self._same(self._cross_encoders, "cross-encoder").version) if self._cross_encoders else ""

    def _same(self, replicas: list[Any], name: str) -> Any:
        give_up_s = self._settings.stream.give_up_s
        descriptions = [
            answer_patiently(replica.describe.remote, name, MODEL_LOAD_S, give_up_s) for replica in replicas
        ]
        if len(set(descriptions)) != 1:
            raise ModelUnusable(f"the {name} replicas hold different models; give all nodes the same folder")
        return descriptions[0]

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)
