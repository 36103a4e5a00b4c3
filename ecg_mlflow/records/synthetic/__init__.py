"""Made-up ECGs of a physiological form, for trying the software without real recordings.

`rhythms` draws the RR intervals of a diagnosis, `heart` the waves that each lead sees of the beats,
`noise` what body and electrodes add, `recording` digitises the sum, and `corpora` writes the two
demo corpora.
"""

from ecg_mlflow.records.synthetic.corpora import write_demo

__all__ = ["write_demo"]
