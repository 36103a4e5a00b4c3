"""What MLflow finds by its entry points: run context, data sets of recordings, project backend."""

# MLflow imports the modules of this package while it is imported itself. To have it begin with that
# here keeps it from asking for one of them that is half imported.
import mlflow.data  # noqa: F401
import mlflow.tracking.context.registry  # noqa: F401
