"""What every room needs and no one owns."""
