"""A change of the weights on its way into a small policy over the shop."""
