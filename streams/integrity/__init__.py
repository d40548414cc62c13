"""The log-integrity breaker: facts of each window of event time, judged by pure functions into verdicts."""
