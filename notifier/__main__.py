"""`python -m notifier` is the command `notifier`."""

from notifier.cli import main

main()
