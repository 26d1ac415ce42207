"""From one symbol's bars to columns that row t fills with bars up to t only."""
