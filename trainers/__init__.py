"""The learning plane: identifiers, policies, warm start, TPMA-GRPO, checkpoints and their gate."""
