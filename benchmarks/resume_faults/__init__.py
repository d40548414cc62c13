"""The parts of the resume benchmark: a learner that says where it is, what is done to it, and the undisturbed run."""
