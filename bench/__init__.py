"""The benchmark: the service beside what one would pick instead, in one run. `python -m bench --help`."""
