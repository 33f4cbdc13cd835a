"""Files, checks and the screen: nothing of reinforcement learning."""
