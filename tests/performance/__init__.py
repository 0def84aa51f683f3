"""Measurements of speed, each a command: `python -m tests.performance.NAME`; CI only checks that they measure.

store_rates        durable, acknowledged records a second, of a served store and of other ways of keeping them
leaderboard_speed  a leaderboard over thousands of trials, from predictions and from kept tables
generation_speed   tokens a second, against texts generated one by one
cluster_scale      thousands of fake trials on hundreds of slots: the driver, the store, and commands beside them
start_speed        from the start of a trial to its first training step, by sandbox
"""
