"""crossfade's engine room: it knows streams, batches, chunks and phases, and no database product."""
