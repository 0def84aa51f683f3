"""Measurements of speed: `python -m tests.performance` runs the parts; CI only checks that they measure.

compute_speed      useful FLOP/s of training and predicting, and a loop as released scripts have
submission         a real grid: wall time over its compute, time to the first result, memory; bare.py is held against it
sandbox_overhead   what a sandbox adds to a trial
generation_speed   tokens a second, against texts generated one by one
store_rates        durable, acknowledged records a second, of a served store and of other ways of keeping them
leaderboard_speed  a leaderboard over thousands of trials, from predictions and from kept tables

Two are commands of their own, `python -m tests.performance.NAME`:

cluster_scale      thousands of fake trials on hundreds of slots: the driver, the store, and commands beside them
planning_speed     a plan of a million trials, and a grid submitted again of which all is stored
"""
