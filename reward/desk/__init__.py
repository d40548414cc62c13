"""The desk: where decisions about the reward are drafted, checked, brought into force, ended and undone."""
