"""The event plane: Faust agents that are pure cores over chunks of records, exactly once from topic to topic."""
