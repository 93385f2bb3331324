"""``python -m cytoclust.cli``."""

from cytoclust.cli import main

main()
