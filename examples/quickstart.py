"""A first study: four small residual networks on made-up ECGs, in about two minutes.

mlflow run . -P grid=quickstart.py                     on made-up records
mlflow run . -P grid=quickstart.py -P data=FOLDER      on WFDB records and REFERENCE.csv
"""

from ecg_mlflow import DemoBudget, Optimizer, Option, Pipeline, Research, ResNet

grid = Option("layout", ["cna", "cnacna"]) * Option("input_filters", [8, 16])

root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})
train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2})
test = root.center_flip().split_signals(3000, step=3000)

research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={
        "blocks": [1] * 6,
        "filters": [8, 8, 16, 16, 32, 32],
        "dropout": 0.1,
    },
    train=train,
    test=test,
    classes=["A", "NO"],
    batch_size=32,
    epochs=60,
    test_every="6 epochs",
    optimizer=Optimizer("adam", learning_rate=3e-3),
    demo=DemoBudget(records=600),
)
