"""What each command does, from its options to an exit code; no torch."""
