"""What if the grid is too large to train? Let a sampler choose, and give up early.

    mlflow run . --env-manager local -P grid=05_optuna.py -P sampler=tpe -P trials=12 -P pruner=asha
    ecg-mlflow run 05_optuna.py --sampler tpe --trials 12 --pruner asha

The learning rate is a range here, so only a sampler can run this file. Optuna's TPE chooses 12
configurations, one after the other by what it has learned; ASHA gives those up that are worse than
two thirds of the others at the same epoch (`KILLED` in MLflow, with the reason as a tag). All of
that is decided by validation records: the test records score the three finalists at the end, and
nothing else. The parent run's `search/` has pictures of the search, and `best.py`, a grid file of
the best configuration alone. To search on: `ecg-mlflow run --resume PARENT_RUN_ID --trials 24`.
"""

# In a hurry: --data demo:60 --epochs 3 --sampler tpe --trials 2 --pruner asha --finalists 1

from ecg_mlflow import (
    C,
    DemoBudget,
    IntUniform,
    LogUniform,
    Optimizer,
    Option,
    Pipeline,
    Research,
    ResNet,
    Split,
)

grid = (
    Option("learning_rate", LogUniform(3e-4, 3e-2))
    * Option("input_filters", IntUniform(4, 32, step=4))
    * Option("layout", ["cna", "nac", "cnacna"])
)

root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})
train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2})
test = root.center_flip().split_signals(3000, step=3000)

research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={"blocks": [1] * 6, "filters": [8, 8, 16, 16, 32, 32], "dropout": 0.1},
    optimizer=Optimizer("adam", learning_rate=C("learning_rate")),
    train=train,
    test=test,
    classes=["A", "NO"],
    epochs=24,
    test_every="2 epochs",  # a pruner decides at these
    # 60 % to train, 20 % to choose by, 20 % to score the choice: each class by itself, by chance.
    split=Split((0.6, 0.2, 0.2), stratified=True, seed=0),
    demo=DemoBudget(records=400),
)
