"""Measurements that are held against goals; a package, so that no installed one of this name comes first."""
