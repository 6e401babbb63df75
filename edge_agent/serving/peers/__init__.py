"""Peers: other servers that answer when this one cannot, and how they are asked."""
