"""Studies: many runs over arms, seeds or settings, by several processes, and what they say."""
