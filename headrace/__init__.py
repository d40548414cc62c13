"""Headrace: a shop's search traffic, led to a learner, and the better model led back to the shop."""

from importlib.metadata import version

__version__ = version("headrace")
