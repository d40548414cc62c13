"""Identifiers of items (KHQE): keyword enhancement, residual k-means, OPQ, and the trie over them."""
