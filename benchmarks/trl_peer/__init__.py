"""TRL's GRPOTrainer as a peer, in a process and an environment of its own."""
