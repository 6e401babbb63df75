"""Where a request runs, and what is kept of it."""
