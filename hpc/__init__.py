"""Where trials run: processes and Ray clusters that execute any callable; knows nothing of training or tables."""
