"""The nouns of the project: plain records and their JSON."""
