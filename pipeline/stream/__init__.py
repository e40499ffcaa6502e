"""From Kafka records to whole transactions."""
