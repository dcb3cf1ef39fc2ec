"""Registers what `other_constants` has, in a process that is forked."""

from tests.tailor.other_constants import add_all

add_all()
