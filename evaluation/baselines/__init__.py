"""What a model must beat: the class frequencies, persistence, and fitted learners."""
