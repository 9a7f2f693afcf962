"""Fixtures for all tests."""

# `wheel` and `device`: what a device installs.
pytest_plugins = ["tests.device_env"]
