"""Sites: the settings of clusters."""
