"""Everything that knows one database product, or Kafka Connect."""
