"""Keyword chains of the queries that people ask, refreshed in the background, never in the path of a search."""
