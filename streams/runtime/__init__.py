"""The chunk runtime: a pure core, a partition, one transaction a flush."""
