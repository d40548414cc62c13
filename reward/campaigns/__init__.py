"""Campaigns over the weights: which is in force, what it makes of each item, and what the model has already taken up."""
