"""Does a recurrent layer on top of convolutions help? A network of one's own, in plain Keras.

    mlflow run . --env-manager local -P grid=02_own_model.py
    ecg-mlflow run 02_own_model.py

A model is any function `(input_shape, n_classes, **options) -> keras.Model` that ends in logits.
Each configuration's network is built once before the first run starts: one that can't be built is
an error then, and `ecg-mlflow plan 02_own_model.py` shows how many parameters each one has.
"""

# In a hurry: --data demo:40 --epochs 1 --configs 3

from ecg_mlflow import DemoBudget, Optimizer, Option, Pipeline, Research


def strided_net(input_shape, n_classes, width, recurrent, dropout=0.2):
    """Halve the length six times, then sum up what is left of it.

    `input_shape` is (samples, leads); `width` and `recurrent` are options of the grid.
    """
    import keras  # here, so that the driver, which only declares the study, need not load it
    from keras import layers

    inputs = keras.Input(input_shape)
    x = inputs
    for filters in (8, 8, 16, 16, 32, 32):
        x = layers.Conv1D(filters, width, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.GRU(16)(x) if recurrent else layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(n_classes)(x))  # logits: no softmax


grid = Option("recurrent", [False, True]) * Option("width", [5, 11])

root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})
train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2})
test = root.center_flip().split_signals(3000, step=3000)

research = Research(
    grid=grid,
    model=strided_net,
    model_arguments={"dropout": 0.1},
    train=train,
    test=test,
    classes=["A", "NO"],
    batch_size=32,
    epochs=40,
    test_every="4 epochs",
    optimizer=Optimizer("adam", learning_rate=3e-3),
    demo=DemoBudget(records=400),
)
