"""The parts of the delivery benchmark: events, workers, the undisturbed run, and what is done to the workers."""
