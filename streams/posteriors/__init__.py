"""Posterior CTR on the stream: counts per partition of views, merged into one immutable snapshot after another."""
