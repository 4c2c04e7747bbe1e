"""Readers of what recorded a trace: Kineto's JSON and Nsight Systems' sqlite."""
