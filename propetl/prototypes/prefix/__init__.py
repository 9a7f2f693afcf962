"""Prefix tuning: keys and values that every token may attend to."""
