"""The composition root: builds the parts of the daemon, starts and stops them in named stages."""
