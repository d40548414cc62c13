"""Identifiers of items (KHQE, EQUATIONS 1): keyword enhancement, residual k-means, OPQ, and the trie over them."""
