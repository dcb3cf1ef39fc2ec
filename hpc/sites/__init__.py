"""What differs between clusters."""
