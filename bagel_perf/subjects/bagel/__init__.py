"""BAGEL as a subject: requests, variants, floors, expectations and golden tensors, on the model in ``model``."""
