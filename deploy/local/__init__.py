"""Everything on one machine, from package registries alone."""
