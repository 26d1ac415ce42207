"""What trains the network: losses, schedules, the optimizer, the collapse forecast."""
