"""One router per resource. A route speaks HTTP and leaves the work to others."""
