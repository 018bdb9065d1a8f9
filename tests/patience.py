"""How long a test waits for what has to come."""

TIMEOUT = 150
"""Seconds, far more than it takes on a machine with other work; only a test that fails waits so long."""
