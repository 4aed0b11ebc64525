"""Recovery points: the schedule, taking them, their index and their proof."""
