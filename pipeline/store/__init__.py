"""The control store: schema `crossfade` in the target database, and the one door to it."""
