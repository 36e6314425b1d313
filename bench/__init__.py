"""The benchmark: the service and its alternatives, measured in one run. `python -m bench --help`."""
