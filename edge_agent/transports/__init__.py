"""Bytes in, bytes out, no decisions."""
