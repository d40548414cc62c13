"""The learning plane: identifiers, policies, warm start, TPMA-GRPO, checkpoints and their gate.

A step in the order in which it is read best: `step` (from a batch to the update), `passes` (from prompts to the gradient), `rollout` and `rewards`
(what is sampled, and its worth), `objective` over `credit/` and `losses/` (the paper's equations).
Around it: `learner` (the loop), `batches` and `window` (which views), `journal`, `state` and `checkpoints` (what survives a kill), `gate` and
`promotion` (what is served), `guards` and `breaker` (what stops it), `ranks`, `orders` and `follower` (several processes).
"""
