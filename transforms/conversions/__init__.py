"""Implicit conversions between logical types, by family of the source type. `transforms.convert` chooses among them."""
