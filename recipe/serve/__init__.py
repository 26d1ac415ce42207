"""What a trained model answers, and in which forms it is shipped."""
