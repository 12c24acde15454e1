"""Clients of other servers, each in an environment of its own: `make test-clients`."""
