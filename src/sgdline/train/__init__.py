"""Update rules, schedules, the training loop, checkpoints and replay."""
