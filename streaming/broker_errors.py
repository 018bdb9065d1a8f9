"""Kafka's errors as ours: what may pass, and what a person has to put right."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from labelstream.schemas.errors import BrokerUnavailable, LabelstreamError, SettingsError

_SETTINGS_ERRORS = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.SecurityDisabledError,
    kafka_errors.KafkaConfigurationError,
    kafka_errors.InvalidGroupIdError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidTopicError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.PolicyViolationError,
    FileNotFoundError,  # a certificate file
    PermissionError,
)

# The other end has gone in the middle of it; all else that is of TLS is a matter of certificates and versions.
_TLS_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_SIZE_ERRORS = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)

# Not marked retriable in kafka-python, yet a new try, with a new producer for the last four, can work.
_TRANSIENT_ERRORS = (
    kafka_errors.BrokerNotAvailableError,
    kafka_errors.UnknownBrokerIdError,
    kafka_errors.UnknownError,
    OSError,
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.UnknownProducerIdError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.ProducerFencedError,
)


def as_transient(error: BaseException) -> BrokerUnavailable | None:
    """The transient error of ours that an error of kafka-python or of a socket means, if it means one."""
    if _is_refusal(error):
        return None
    if isinstance(error, _TRANSIENT_ERRORS) or getattr(error, "retriable", False):
        return BrokerUnavailable(f"{error}; check that the brokers of LABELSTREAM_KAFKA_BOOTSTRAP_SERVERS are up")
    return None


def as_settings_error(error: BaseException) -> SettingsError | None:
    """The settings error that an error of kafka-python or of TLS means, if it means one."""
    if _is_refusal(error):
        return SettingsError(f"{error}; check the LABELSTREAM_KAFKA_ settings and this user's rights in Kafka")
    if isinstance(error, _SIZE_ERRORS):
        return SettingsError(f"a record is too large: {error}; raise max.message.bytes of the topic")
    return None


def _is_refusal(error: BaseException | None) -> bool:
    if isinstance(error, kafka_errors.KafkaConnectionError):  # what kafka-python makes of a handshake that fails
        return isinstance(error.__context__, ssl.SSLError) and _is_refusal(error.__context__)
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, _TLS_ENDED)
    return isinstance(error, _SETTINGS_ERRORS)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise kafka-python's errors as ours.

    Raises:
        BrokerUnavailable: Kafka does not answer in time, or is between two states.
        SettingsError: Kafka refuses who we are or what we ask for.
    """
    try:
        yield
    except LabelstreamError:
        raise
    except Exception as error:
        ours = as_transient(error) or as_settings_error(error)
        if ours is None:
            raise
        raise ours from error


def connect(make: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Make a client of kafka-python, or fail without a trace.

    Left alone, a consumer or admin client that finds no broker leaves its I/O thread behind, and one that is
    refused (password, certificate) says so only in the log and ends as if there were no broker.

    Args:
        make: KafkaConsumer, KafkaProducer or KafkaAdminClient.
        options: What to make it with.

    Raises:
        BrokerUnavailable: No broker answers.
        SettingsError: Kafka refuses us.
    """
    networks: list[KafkaNetClient] = []

    def remember(**network_options: Any) -> KafkaNetClient:
        networks.append(KafkaNetClient(**network_options))
        return networks[-1]

    try:
        with broker_errors(), _Refusals(len(options["bootstrap_servers"])) as refusals:
            return make(kafka_client=remember, **options)
    except LabelstreamError as error:
        for network in networks:
            network.close()
        raise refusals.first or _with_hint(error, options) from error.__cause__


def _with_hint(error: LabelstreamError, options: dict[str, Any]) -> LabelstreamError:
    # A broker that refuses a password hangs up right after saying so, and kafka-python may miss the words.
    if isinstance(error, BrokerUnavailable) and "sasl_mechanism" in options:
        return BrokerUnavailable(f"{error} and that LABELSTREAM_KAFKA_SASL_USERNAME and _PASSWORD are right")
    return error


class _Refusals(logging.Handler):
    """Listens to kafka-python's log for an error that a person has to put right, while a client is made.

    kafka-python would try again until its time is over: half a minute in which a wrong password is sent dozens of
    times. Where its search for a broker fails twice more after a refusal, that search is ended. Any failure counts by
    then, because most refusals are not heard: see ``_with_hint``.

    Args:
        brokers: How many are tried: one of them may have a wrong certificate, and the next a right one.
    """

    _listening, _lock = 0, threading.Lock()
    _before = (logging.NOTSET, True)
    _TRIES = 3  # a broker that has just begun, or whose passwords are being changed, may refuse once or twice

    _log = logging.getLogger("kafka.net.manager")

    def __init__(self, brokers: int) -> None:
        super().__init__(logging.WARNING)
        self.first: SettingsError | None = None
        self._left = self._TRIES + brokers - 1

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        errors = [value for value in arguments if isinstance(value, BaseException)]
        for error in errors:
            self.first = self.first or as_settings_error(error)
        if errors and self.first is not None and record.funcName == "_do_bootstrap":
            self._left -= 1
            if self._left <= 0:
                raise self.first

    def __enter__(self) -> _Refusals:
        with self._lock:
            if not _Refusals._listening:
                _Refusals._before = self._log.level, self._log.propagate
                if not self._log.isEnabledFor(logging.WARNING):  # the commands want no word of kafka-python
                    self._log.setLevel(logging.WARNING)
                    self._log.propagate = False
            _Refusals._listening += 1
            self._log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._log.removeHandler(self)
            _Refusals._listening -= 1
            if not _Refusals._listening:
                level, self._log.propagate = _Refusals._before
                self._log.setLevel(level)
