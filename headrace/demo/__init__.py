"""The whole loop on one machine: prepare, warm-start, shop, learn, change the weights, compare, report."""
