"""Which of the networks may be used, and how? From a study to a model that reads recordings.

    mlflow run . --env-manager local -P grid=08_promotion.py
    ecg-mlflow compare 08_promotion
    ecg-mlflow errors 08_promotion
    ecg-mlflow promote 08_promotion --name af-demo
    ecg-mlflow predict models:/af-demo@champion RECORDS -o answers.csv

RECORDS are headers of WFDB records, or a folder. `compare` says which configurations are not
significantly different from the best, `errors` draws the worst errors as ECG strips. `promote`
makes the winner a registered model, and the first one the champion; a later one only if it is
better beyond chance on the same held-out records. `promote 08_promotion --name af-demo
--min-sensitivity 0.9` refuses what is not surely that sensitive. `ecg-mlflow rollback --name
af-demo` takes a promotion back.

The studies that are worth promoting from have validation records: these choose weights, winner,
threshold and calibration, so that the test records judge what they had no part in.
"""

# In a hurry: --data demo:60 --epochs 2 --reps 1

from ecg_mlflow import DemoBudget, Optimizer, Option, Pipeline, Research, ResNet, Split

grid = Option("input_filters", [4, 8])

# The test pipeline is what the promoted model does with a recording of any sampling frequency:
# without resample_signals it would resample to the frequency that the study's records have.
root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"}).resample_signals(150)
train = root.center_flip().random_split_signals(1500, {"A": 6, "NO": 2})
test = root.center_flip().split_signals(1500, step=750)

research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={
        "blocks": [1] * 5,
        "filters": [8, 8, 16, 16, 32],
        "layout": "cna",
        "dropout": 0.1,
    },
    optimizer=Optimizer("adam", learning_rate=3e-3),
    train=train,
    test=test,
    classes=["A", "NO"],
    epochs=40,
    test_every="4 epochs",
    repetitions=2,
    split=Split((0.6, 0.2, 0.2), stratified=True, seed=0),
    demo=DemoBudget(records=400),
)
