"""MLflow: one parent run per study, one child run per configuration and repetition.

Everything goes through an explicit client and run id, never through MLflow's active run. The
driver owns a `Study`, each worker a `RunLog` for the child that the driver opened. Nothing here
knows of Keras, signals or processes: it takes plain values, arrays and file paths.
"""
