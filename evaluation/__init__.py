"""What predictions are worth: figures, baselines, verdict, trades."""
