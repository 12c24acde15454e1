"""The trace that a caller's request belongs to (W3C Trace Context)."""

from __future__ import annotations

import re

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""The header; its group is the trace's id."""
