"""Does it learn? The closed loop in one process, one arm at a time, over the same requests, users and draws."""
