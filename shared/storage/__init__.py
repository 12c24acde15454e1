"""Storage: the only home of the Azure SDKs."""
