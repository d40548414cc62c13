"""The report of a demo: numbers read back from the topics, and a page that opens without network."""
