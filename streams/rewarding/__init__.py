"""Views become training examples: relevance tier and posterior CTR attached to every shown item."""
