"""What figures, tables and the page are made of; it knows no question."""
