"""The engine's own process: host is the child, supervisor the parent, link the wire between."""
