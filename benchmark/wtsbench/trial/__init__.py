"""The science: one trial, from its folder to its records. The only room that imports torch.

`python -m wtsbench.trial DIR` runs the trial of a trial folder by hand; supervisors start it through `wtsbench.worker`.
"""
