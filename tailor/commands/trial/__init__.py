"""One trial without a sweep."""
