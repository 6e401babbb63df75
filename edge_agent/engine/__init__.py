"""Requests in, events out: plain synchronous Python on numpy and onnxruntime, no event loop."""
