"""Counts of views per partition, and their merger into posterior snapshots: two pure cores."""
