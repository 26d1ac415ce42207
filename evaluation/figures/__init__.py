"""What a run is judged by, as types, and how they are written and read."""
