"""The search server: constrained beam search, the serving score, exploration, hot reload and the impression log."""
