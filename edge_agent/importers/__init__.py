"""Foreign weights to one package layout, streaming tensor by tensor, in a process of its own."""
