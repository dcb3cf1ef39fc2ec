"""`transtailor doctor`: tries on a site, with tiny jobs, what a sweep needs there."""
