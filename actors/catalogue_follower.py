"""Keeps this machine's store at the lake's newest snapshot for an endpoint, which may be there before the lake is."""

from __future__ import annotations

import logging
import threading

from labelstream.schemas.errors import LabelstreamError
from labelstream.schemas.settings import Settings
from labelstream.streaming.follower import StoreFollower
from labelstream.streaming.lake import Lake
from labelstream.streaming.local_store import LocalStore
from labelstream.streaming.periodic import Periodic

INTERVAL_S = 2.0
# A follower that has given up says so; what stopped it will not be mended within seconds.
AFTER_FAILURE_S = 30.0

_log = logging.getLogger(__name__)


class CatalogueFollower(Periodic):
    """Looks for the lake until there is one, and follows it; use as a context manager.

    On the Writer's machine there is nothing left to do for it. Of many on one machine only one works.

    Args:
        settings: Where the lake is.
        store: Of this machine.
        interval_s: Seconds from one look to the next.
    """

    def __init__(self, settings: Settings, store: LocalStore, interval_s: float = INTERVAL_S) -> None:
        super().__init__("catalogue-follower", self._follow_if_there, interval_s)
        self._settings, self._store = settings, store
        self._complaint = ""

    def _follow_if_there(self) -> None:
        if self._lake_is_there():
            self._follow()

    def _lake_is_there(self) -> bool:
        try:
            with Lake(self._settings.lake, read_only=True) as lake:
                _ = lake.identity  # it may be half made
        except LabelstreamError as error:
            if str(error) != self._complaint:  # said once, not every two seconds
                _log.info("no product can be asked for by its id yet: %s", error)
                self._complaint = str(error)
            return False
        self._complaint = ""
        return True

    def _follow(self) -> None:
        ended = threading.Event()
        with StoreFollower(self._settings, self._store, interval_s=self._interval_s, on_error=ended.set):
            while not ended.is_set() and not self.wait(self._interval_s):
                pass
        self.wait(AFTER_FAILURE_S)
