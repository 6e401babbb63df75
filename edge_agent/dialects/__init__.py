"""JSON bodies to vocabulary and back, pure: no clock, no I/O, no transport."""
