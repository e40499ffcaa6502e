"""Traffic drivers: what stands between the application and the databases, told to wait, to go elsewhere, and to go on."""
