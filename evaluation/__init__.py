"""What predictions are worth: metrics, baselines, verdict, trades."""
