"""One run while it trains in a worker."""
