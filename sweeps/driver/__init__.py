"""The driver of a sweep: hands out trials, keeps tables and display up to date."""
