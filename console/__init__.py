"""The web console: reward weights for operators, and a look at live training."""
