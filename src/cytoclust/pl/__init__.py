"""Placeholder docstring; the room's author writes it."""

__all__: list[str] = []
