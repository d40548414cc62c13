"""The event plane as a benchmark needs it: a broker of its own, workers as processes, dirty traffic, and where it stands."""
