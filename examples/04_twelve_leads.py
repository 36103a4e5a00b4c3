"""Which leads does it take to find several diagnoses at once? Several leads, several labels.

    mlflow run . --env-manager local -P grid=04_twelve_leads.py -P data=demo12
    ecg-mlflow run 04_twelve_leads.py --data demo12

`demo12` makes up 200 recordings as those of the CinC Challenges 2020 and 2021: twelve leads, 500
Hz, ten seconds, with the diagnoses as SNOMED codes in their headers (`#Dx: 164889003,59118001`).
A folder of the Challenges' own records in its place works the same, without a label file.

With `multilabel=True` a record may be of several classes, or of none: the network's outputs are
judged one by one, and the best configuration is the one with the highest `test_f1_macro`, the mean
F1 over the classes. `test_f1_AF` and the like stand beside it.
"""

# In a hurry: --data demo12:25 --epochs 1 --configs 1

from ecg_mlflow import (
    KV,
    SNOMED,
    C,
    DemoBudget,
    Optimizer,
    Option,
    Pipeline,
    Research,
    ResNet,
    Split,
)

DIAGNOSES = ["AF", "IAVB", "LBBB", "RBBB"]
ALL = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]

# KV gives a value a short name, for tables and MLflow.
grid = Option("leads", [KV(ALL, "twelve"), KV(["I", "II", "V1", "V6"], "four"), KV(["I"], "one")])

# Records of other diagnoses alone stay: they are examples of none of the classes.
root = (
    Pipeline()
    .rename_labels(SNOMED)
    .select_labels(DIAGNOSES)
    .keep_leads(C("leads"))
    .band_pass_signals(0.5, 40)
    .resample_signals(100)
)
# The number of windows may depend on the label; "" is a record of none of the classes.
train = root.random_split_signals(800, {**dict.fromkeys(DIAGNOSES, 3), "": 2})
test = root.split_signals(800, step=200)

research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={
        "blocks": [1] * 5,
        "filters": [16, 16, 32, 32, 64],
        "layout": "cna",
        "input_filters": 16,
        "dropout": 0.2,
    },
    train=train,
    test=test,
    classes=DIAGNOSES,
    multilabel=True,
    batch_size=16,
    epochs=30,
    test_every="5 epochs",
    optimizer=Optimizer("adam", learning_rate=3e-3),
    split=Split(0.75, stratified=True, seed=0),
    demo=DemoBudget(records=200),
)
