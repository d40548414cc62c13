"""The console's HTTP API: decisions about the reward, who made them, and who may."""
