"""Things to measure: each turns a case and a seed into an output, stage by stage."""
