"""Predict which employees are likely to leave, and run that model responsibly on Ray."""

__version__ = "0.1.0"
