"""What all four rooms are built on; it imports none of them and no heavy library."""
