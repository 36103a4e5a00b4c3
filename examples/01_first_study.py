"""Which learning rate and which block layout find atrial fibrillation best?

    mlflow run . --env-manager local -P grid=01_first_study.py
    ecg-mlflow run 01_first_study.py

Both commands do the same; `-P data=FOLDER` (or `--data FOLDER`) takes your own WFDB records.
Six configurations, two trainings of each, on made-up ECGs: two minutes on two cores. At the end
stands a table with a row per configuration, the best first: `test_f1` is the mean over its two
trainings. `mlflow ui` shows the same runs with the loss of every iteration.
"""

# In a hurry: --data demo:40 --epochs 1 --reps 1 --configs 0

from ecg_mlflow import C, DemoBudget, Optimizer, Option, Pipeline, Research, ResNet

# What is varied: every layout with every learning rate.
grid = Option("layout", ["cna", "cnacna"]) * Option("learning_rate", [1e-3, 3e-3, 1e-2])

# What a record goes through. Noise (~) is left out; AF (A) is told from all other rhythms.
root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})
# Ten seconds of 300 Hz: six random windows of an AF record, two of any other.
train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2})
# A record is scored by the mean over all its windows.
test = root.center_flip().split_signals(3000, step=3000)

research = Research(
    grid=grid,
    model=ResNet,
    # `layout` is an option named like an argument of ResNet: it gets there by itself.
    model_arguments={"blocks": [1] * 6, "filters": [8, 8, 16, 16, 32, 32], "input_filters": 8},
    # An option that is no argument of the network stands where C("name") is.
    optimizer=Optimizer("adam", learning_rate=C("learning_rate")),
    train=train,
    test=test,
    classes=["A", "NO"],
    batch_size=32,
    epochs=40,
    test_every="4 epochs",
    repetitions=2,
    demo=DemoBudget(records=400),
)
