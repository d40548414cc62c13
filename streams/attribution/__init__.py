"""The join of impressions with their clicks, orders and returns: a pure core over chunks of records."""
