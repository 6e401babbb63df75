"""Model packages on disk: cards, manifests, fetching and publishing. Knows no weights."""
