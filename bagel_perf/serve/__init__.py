"""BAGEL as a service, in the form of API that vLLM-Omni's clients use."""
