"""Export a run to other tools: CSV files, TensorBoard, MLflow, Weights & Biases."""
