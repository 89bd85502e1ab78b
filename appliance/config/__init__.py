"""Settings: `tercel.yaml`, checked against its schema and made into frozen values."""
