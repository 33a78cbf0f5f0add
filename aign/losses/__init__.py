"""Losses: pure functions, one value per sample, explicit weights; weighting and reduction belong to `Aign`."""
