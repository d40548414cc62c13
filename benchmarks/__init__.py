"""Measurements against peers: each module is run as `python -m benchmarks.NAME [--quick] [--json FILE]`."""
