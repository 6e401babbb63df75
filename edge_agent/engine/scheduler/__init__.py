"""What the engine decides between steps. Plain values in, plain values out: no arrays, no clock.

`plan`: what one step computes. `pace`: how long steps take, learned, and how large a chunk may be
beside running answers. `order`: who has a slot. `shares`: what was computed for whom.
"""
