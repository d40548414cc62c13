"""A small policy over a small shop, what it is fed with, and a change of the weights on its way into it."""
