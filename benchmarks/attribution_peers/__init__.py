"""The parts of the `attribution` benchmark: its log, the systems that join it (one file each), and how they are run."""
