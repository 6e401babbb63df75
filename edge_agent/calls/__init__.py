"""Tool calls in the text of an answer, whoever wrote it: the engine here or a peer. Text only."""
