"""What was served, against what else could have been: the same requests, the same users, the same draws."""
