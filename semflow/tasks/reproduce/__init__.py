"""The tables of the tasks, baselines and ablations: what is trained for them, how, and what they say."""
