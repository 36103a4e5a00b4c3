"""The model that reads raw recordings: what it is made of, and the code that MLflow runs for it."""
