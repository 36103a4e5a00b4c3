"""Build Keras models with functions ``(input_shape, n_classes, **options) -> keras.Model``."""

from ecg_mlflow.models.resnet import ResNet, ResNet18, ResNet34

__all__ = ["ResNet", "ResNet18", "ResNet34"]
