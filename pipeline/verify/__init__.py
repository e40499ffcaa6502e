"""Whether the target holds what the source holds: checksums inside both databases, rows by key where they differ, and repair."""
