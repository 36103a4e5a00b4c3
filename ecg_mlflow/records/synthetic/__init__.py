"""Made-up ECGs of a physiological form, for trying the software without real recordings.

`rhythms` says when the heart beats and how, `waves` what the electrodes see of it, `leads` how
that becomes the standard leads, `noise` what hand and electrode add, and `recording` puts them
together into one record.
"""
