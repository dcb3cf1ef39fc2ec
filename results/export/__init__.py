"""A run's rows in the tools that people have: CSV files, TensorBoard, MLflow, Weights & Biases."""
