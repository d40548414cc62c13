"""What a shown item is worth: relevance tiers, calibrated CTR, the composite reward and its versioned weights."""
