"""The shop simulator, the delivery of its events to Kafka with dirt, and the driver that lets a world shop."""
