"""Memory: how much there is, what a request will take, and what to do when it gets short."""
