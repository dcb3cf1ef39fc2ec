"""Statistics on plain numbers, a file for each subject. docs/statistics.md says what each means and when it applies."""
