"""`migration.yaml` as frozen models: `load(path)` reads and checks it, `render_example` writes a first one."""

from pipeline.spec.example import render_example
from pipeline.spec.load import load, parse
from pipeline.spec.migration import Endpoint, Migration, Stream
from pipeline.spec.secret import Secret
from pipeline.spec.tables import TableEntry

__all__ = ["Endpoint", "Migration", "Secret", "Stream", "TableEntry", "load", "parse", "render_example"]
