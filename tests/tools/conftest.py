"""Tools of developers are no part of the product, so `make test` leaves their tests out."""

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test of this folder."""
    item.add_marker(pytest.mark.check)
