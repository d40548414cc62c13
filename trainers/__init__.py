"""The learning plane: identifiers, policies, warm start, TPMA-GRPO, checkpoints and their gate.

A step in the order in which it is read best: `step` (from a batch to the update), `passes` (from prompts to the gradient), `rollout` and `rewards`
(what is sampled, and its worth), `objective` over `credit/` and `losses/` (the paper's equations).
Before it: `pairs`, `lessons` and `warm_start` (supervised, with self-distillation). Around it: `learner` (the loop), `follow`, `batches`, `window` and `stock` (which views, which items), `journal`, `journalled`, `state`
and `checkpoints` (what survives a kill), `gate`, `promotion` and `served` (what is served), `guards`, `watch`, `breaker` and `holding` (what stops it), `ranks`, `orders` and `follower` (several processes), `lines`,
`lineage` and `remake` (what made a checkpoint).
"""
