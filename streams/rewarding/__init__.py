"""Views become training examples: every shown item gets its reward's components, apart, with their versions."""
