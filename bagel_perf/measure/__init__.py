"""Measures any subject: rounds, times, outputs, telemetry, device work; knows none."""
