"""How good the best possible answers to a made-up market are."""
