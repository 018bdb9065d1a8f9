"""labelstream: search logs in, relevance labels out, exactly once."""

from importlib.metadata import version

__version__ = version("labelstream")
