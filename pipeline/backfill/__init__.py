"""Bulk copy beside the stream, without locks. The rules and why they suffice: docs/decisions/backfill-rules.md."""
