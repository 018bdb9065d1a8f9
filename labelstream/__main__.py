"""``python -m labelstream``."""

from labelstream.cli import main

main()
