"""From whole transactions to net effects on the target, exactly once."""
