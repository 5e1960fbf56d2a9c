"""Measuring models and codecs over folders of pictures."""
